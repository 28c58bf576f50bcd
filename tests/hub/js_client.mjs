// What people do with a hub, done by the JavaScript client: node js_client.mjs ENDPOINT TOKEN TYPE
//
// Prints a line for each step that went right; ends at the first that does not.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [hubUrl, accessToken, type, module] = process.argv.slice(2);
const hub = await import(pathToFileURL(module));
const repo = { type, name: "me/js" };
const at = { repo, hubUrl, accessToken };
const text = (blob) => blob.text();
const all = async (generator) => {
	const found = [];
	for await (const each of generator) found.push(each);
	return found;
};
const paths = async (revision, more = {}) =>
	(await all(hub.listFiles({ ...at, revision, ...more }))).map((file) => file.path).sort();
const download = async (path, more = {}) => hub.downloadFile({ ...at, path, ...more });
const step = (name) => console.log(name);

const who = await hub.whoAmI({ hubUrl, accessToken });
assert.equal(who.name, "me");
step("whoAmI");

const made = await hub.createRepo({
	...at,
	visibility: "private",
	license: "mit",
	files: [{ content: new Blob(["first"]), path: "first.txt" }],
});
assert.ok(made.repoUrl.endsWith("me/js"));
assert.deepEqual(await paths(), [".gitattributes", "README.md", "first.txt"]);
assert.equal(await text(await download("first.txt")), "first");
assert.match(await text(await download("README.md")), /license: mit/);
await assert.rejects(hub.createRepo(at), (error) => error.statusCode === 409);
step("createRepo");

assert.equal((await hub.checkRepoAccess(at)) ?? true, true);
await assert.rejects(hub.checkRepoAccess({ ...at, repo: { type, name: "me/none" } }));
step("checkRepoAccess");

await hub.uploadFile({ ...at, file: { path: "a/b.txt", content: new Blob(["small"]) } });
const weights = new Uint8Array(3_000_000).map((_, i) => (i * 2654435761) >>> 13);
for (const useXet of [false, true]) {
	const path = `w-${useXet}.safetensors`;
	await hub.uploadFile({ ...at, file: { path, content: new Blob([weights, path]) }, useXet });
	const got = new Uint8Array(await (await download(path)).arrayBuffer());
	assert.deepEqual(got, new Uint8Array(await new Blob([weights, path]).arrayBuffer()));
}
await hub.uploadFiles({
	...at,
	files: [
		{ path: "one.json", content: new Blob(["{}"]) },
		{ path: "two.json", content: new Blob(["[]"]) },
	],
});
assert.equal(await text(await download("a/b.txt")), "small");
step("uploadFile");

const listed = await all(hub.listFiles({ ...at, recursive: true, expand: true }));
const large = listed.find((file) => file.path === "w-false.safetensors");
assert.equal(large.lfs.size, weights.length + large.path.length);
assert.ok(large.lastCommit.id);
assert.ok(listed.some((file) => file.type === "directory" && file.path === "a"));
step("listFiles");

const info = await hub.fileDownloadInfo({ ...at, path: "w-true.safetensors" });
assert.equal(info.size, weights.length + "w-true.safetensors".length);
const part = await (await download("w-true.safetensors")).slice(10, 20).arrayBuffer();
assert.deepEqual(new Uint8Array(part), weights.slice(10, 20));
assert.match(await text(await download("w-false.safetensors", { raw: true })), /^version https/);
assert.equal(await download("none.txt"), null);
assert.equal(await hub.fileExists({ ...at, path: "a/b.txt" }), true);
assert.equal(await hub.fileExists({ ...at, path: "a/c.txt" }), false);
step("downloadFile");

const commit = await hub.commit({
	...at,
	title: "changes",
	description: "a text",
	operations: [
		{ operation: "addOrUpdate", path: "new.txt", content: new Blob(["new"]) },
		{ operation: "delete", path: "one.json" },
	],
});
assert.match(commit.commit.oid, /^[0-9a-f]{40}$/);
const [newest] = await all(hub.listCommits({ ...at, batchSize: 5 }));
assert.deepEqual([newest.oid, newest.title, newest.message], [commit.commit.oid, "changes", "a text"]);
assert.equal(await hub.countCommits(at), (await all(hub.listCommits(at))).length);
await assert.rejects(
	hub.commit({ ...at, title: "stale", parentCommit: "0".repeat(40), operations: [{ operation: "delete", path: "new.txt" }] }),
	(error) => error.statusCode === 412,
);
step("commit");

await hub.createBranch({ ...at, branch: "dev" });
await hub.uploadFile({ ...at, branch: "dev", file: { path: "dev.txt", content: new Blob(["dev"]) } });
assert.ok((await paths("dev")).includes("dev.txt") && !(await paths()).includes("dev.txt"));
await assert.rejects(hub.createBranch({ ...at, branch: "dev" }), (error) => error.statusCode === 409);
await hub.createBranch({ ...at, branch: "dev", revision: "main", overwrite: true });
assert.ok(!(await paths("dev")).includes("dev.txt"));
await hub.createBranch({ ...at, branch: "bare", empty: true });
assert.deepEqual(await paths("bare"), []);
await hub.deleteBranch({ ...at, branch: "dev" });
await assert.rejects(paths("dev"), (error) => error.statusCode === 404);
step("branches");

const pull = await hub.commit({
	...at,
	title: "a proposal",
	isPullRequest: true,
	operations: [{ operation: "addOrUpdate", path: "pr.txt", content: new Blob(["pr"]) }],
});
assert.match(pull.pullRequestUrl, /discussions\/1$/);
assert.ok((await paths("refs/pr/1")).includes("pr.txt") && !(await paths()).includes("pr.txt"));
step("pull request");

await hub.deleteFiles({ ...at, paths: ["two.json", "new.txt"] });
await hub.deleteFile({ ...at, path: "a/b.txt" });
assert.deepEqual(await paths(), [".gitattributes", "README.md", "first.txt", "w-false.safetensors", "w-true.safetensors"]);
step("deleteFiles");

if (type === "model") {
	assert.deepEqual((await all(hub.listModels({ hubUrl, accessToken, search: { owner: "me" } }))).map((m) => m.name), ["me/js"]);
	assert.equal((await hub.modelInfo({ name: "me/js", hubUrl, accessToken })).name, "me/js");
} else {
	assert.deepEqual((await all(hub.listDatasets({ hubUrl, accessToken, search: { owner: "me" } }))).map((d) => d.name), ["me/js"]);
	assert.equal((await hub.datasetInfo({ name: "me/js", hubUrl, accessToken })).name, "me/js");
}
step("info");

await hub.deleteRepo(at);
await assert.rejects(paths(), (error) => error.statusCode === 404);
step("deleteRepo");
