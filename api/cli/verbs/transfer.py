"""The verbs that move models: push and pull."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ...cache_config import chunk_cache
from ...config import own_paths
from ...formatting import format_bytes, format_count, format_rate
from ...library.names import split_repo
from ...terminal import show
from ..completion import repo_argument
from ..console import Session, interruptible
from ..options import revision_option, verb
from .folder_plan import describe_remarks, folder_options, open_memory, show_plan

if TYPE_CHECKING:
    from ....dedup.model.files.manifest import Manifest
    from ....dedup.model.history import PushResult
    from ....dedup.transfer.folders.memory import ScanMemory
    from ....dedup.transfer.folders.rules import Rules
    from ....dedup.transfer.pull import PullResult
    from ....dedup.vault import Commit, Vault


@verb("push")
@click.argument("path", type=click.Path(path_type=Path))
@repo_argument()
@revision_option("The branch to push to.")
@click.option("--base", metavar="REPO", help="The repo that this model derives from.")
@click.option(
    "--level",
    type=click.Choice(["fast", "default", "max"]),
    default="default",
    show_default=True,
    help="How much time to spend on a smaller result.",
)
@click.option("-m", "--message", help="What to say of the commit; its first line is the title.")
@click.option("--tag", metavar="NAME", help="Let a tag name the commit.")
@folder_options
def push(
    session: Session,
    path: Path,
    repo: str,
    revision: str | None,
    base: str | None,
    level: str,
    message: str | None,
    tag: str | None,
    dry_run: bool,
    rescan: bool,
    **patterns: Any,
) -> None:
    """Store the file or folder PATH as the newest commit of REPO, or REPO@BRANCH.

    A new repo is private. Only what the vault does not have yet is sent. A push that was
    interrupted can be run again and goes on where it was. Links are followed. What .wvignore files
    name (as git reads .gitignore) and what tools keep beside a model is left out and named. Files
    that cannot be read, links that lead nowhere, and files that hold keys or passwords end the push
    before anything is stored.
    """
    from ....dedup.model.names import check_branch, check_repo, split_message
    from ....dedup.transfer.folders.rules import Rules

    # Before the vault is opened: a mistyped name must not make a new one.
    if not path.exists() and Path(repo).exists():
        raise click.UsageError(f"there is no file {path}: the folder comes first, then the repo")
    repo, branch = split_repo(repo, revision)
    check_repo(repo)
    check_branch(branch)
    split_message(message)
    if tag is not None:
        check_branch(tag)
    rules = Rules(**patterns, own=own_paths(session.url, session.catalogue))
    if dry_run:
        show_plan(session, path, rules)
        return
    asked = _Asked(path, repo, branch, base, level, message, tag)
    result = _run_push(session, asked, rules, open_memory(rescan))
    session.emit(asdict(result), _describe_push(result))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to push, where to, and how."""

    path: Path
    repo: str
    branch: str
    base: str | None
    level: str
    message: str | None
    tag: str | None


def _run_push(session: Session, asked: _Asked, rules: Rules, memory: ScanMemory) -> PushResult:
    from ....dedup.transfer.folders.survey import survey_checked
    from .repeated import RepeatedPush, ask

    path, repo, branch, base = asked.path, asked.repo, asked.branch, asked.base
    found = survey_checked(path, rules)

    def run() -> PushResult:
        from ....dedup.transfer.push import push as push_folder
        from ...progress import make_progress

        with session.open(create=True) as vault:
            if asked.tag is not None:
                _check_tag(vault, repo, asked.tag)
            watch = CommitWatch(vault)
            with interruptible(lambda: _explain_push(watch, repo)):
                result = push_folder(
                    cast("Vault", watch),
                    path,
                    repo,
                    branch,
                    base=base,
                    level=asked.level,
                    message=asked.message,
                    progress=make_progress(),
                    found=found,
                    memory=memory,
                )
            if asked.tag is not None:
                vault.create_tag(repo, asked.tag, result.commit.id)
        return result

    if asked.tag is not None:
        return run()
    same = ask(str(path.absolute()), repo, branch, base)
    return RepeatedPush(session, memory, found, same).answer(run)


@verb("pull")
@repo_argument()
@click.argument("dest", type=click.Path(path_type=Path))
@click.argument("files", metavar="[FILE]...", nargs=-1)
@revision_option("A branch, a tag, or a commit by seven digits or more.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Write what matches alone.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches.")
@click.option(
    "--reuse",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take what files of the same names in FOLDER have.",
)
@click.option("--skip-refused", is_flag=True, help="Leave out files that pull does not write.")
def pull(
    session: Session,
    repo: str,
    dest: Path,
    files: tuple[str, ...],
    revision: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    reuse: tuple[Path, ...],
    skip_refused: bool,
) -> None:
    """Write the files of REPO, or REPO@REVISION, below the folder DEST: all, or each FILE.

    Patterns are those of huggingface_hub: *.json, onnx/*.

    Every file is verified before it appears under its name. Files that are there already, byte
    for byte, are left alone; others of the same name are replaced. No link below DEST is followed.
    Files that tools would execute or read settings from, such as .git/config, are refused.

    A server does not send what is here already: in the cache of chunks, in DEST, or in a FOLDER to
    reuse, such as the cache of huggingface_hub.
    """
    from ....dedup.transfer.pull import pull as run_pull
    from ...library.operations import choose_files
    from ...progress import make_progress

    _check_order(repo, dest)

    def explain() -> tuple[str, str]:
        return f"interrupted; the files in {dest} that are there are whole", "pull again to resume"

    repo, revision = split_repo(repo, revision)
    with session.open() as vault, interruptible(explain):
        _check_files(vault, repo, revision, files)
        result = run_pull(
            vault,
            repo,
            dest,
            revision,
            wants=choose_files(files, include, exclude),
            skip_refused=skip_refused,
            progress=make_progress(),
            cache=chunk_cache(),
            reuse=reuse,
        )
    session.emit(asdict(result), _describe_pull(result, dest))


def _check_order(repo: str, dest: Path) -> None:
    """Raises UsageError where the folder to pull into was given before the repo."""
    from ....dedup.errors import InvalidName

    try:
        split_repo(repo)
    except InvalidName:
        with suppress(InvalidName):
            split_repo(str(dest))
            raise click.UsageError(
                f"{repo!r} is no name of a repo: the repo comes first, then the folder"
            ) from None
        raise


def _check_files(vault: Vault, repo: str, revision: str, files: tuple[str, ...]) -> None:
    """Raises EntryNotFound where a revision lacks a file that is named: before any is written."""
    from ....dedup.errors import EntryNotFound

    manifest = vault.resolve(repo, revision).manifest if files else None
    for path in files:
        if manifest is not None and manifest.file(path) is None:
            named = f"{repo}@{revision}"
            raise EntryNotFound(
                f"{named} has no file {path!r}", f"`weightvault ls {named}` lists them"
            )


def _check_tag(vault: Vault, repo: str, tag: str) -> None:
    """Raises Conflict where a tag is there already: before anything is sent."""
    from ....dedup.errors import Conflict, Missing

    with suppress(Missing):
        if tag in vault.list_refs(repo).tags:
            raise Conflict(f"{repo} has a tag {tag} already", "choose another name, or delete it")


class CommitWatch:
    """Passes everything on to a vault and notes whether the commit was asked for.

    Until then an interrupted push has certainly changed nothing that anybody sees; after that,
    the answer may have been on its way.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.asked = False
        self.made = False

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
    ) -> Commit:
        """See Vault.commit."""
        self.asked = True
        commit = self._vault.commit(repo, branch, manifest, base=base, message=message)
        self.made = True
        return commit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)


def _explain_push(watch: CommitWatch, repo: str) -> tuple[str, str]:
    if watch.made:
        message = "interrupted after the commit was made, while related models were re-encoded"
        return message, "`weightvault optimise` does the rest"
    if watch.asked:
        message = "interrupted while committing; the commit may have been made"
        return message, f"`weightvault info {repo}` tells; pushing again is safe"
    return "interrupted; nothing was committed", "push again to resume: what was sent is kept"


def _describe_push(result: PushResult) -> str:
    rate = format_rate(result.logical, result.seconds)
    saved = f"\n{format_bytes(result.saved)} saved by re-encoding related models"
    chunks = f"{format_count(result.new_chunks, 'new chunk')}, {result.known_chunks} known"
    return (
        f"pushed {result.commit.repo} {result.commit.branch} {result.commit.id}\n"
        f"{format_count(result.files, 'file')}, {format_bytes(result.logical)}: {chunks}; "
        f"{format_bytes(result.sent)} sent in {result.seconds:.1f} s ({rate})"
        f"{saved if result.saved else ''}"
        f"{describe_remarks(result.left_out, result.warnings)}"
    )


def _describe_pull(result: PullResult, dest: Path) -> str:
    rate = format_rate(result.logical, result.seconds)
    commit = result.commit
    reused = f"\n{format_bytes(result.reused)} taken from this machine" if result.reused else ""
    refused = "".join(f"\nrefused {each.path!a}: {each.reason}" for each in result.refused)
    return (
        f"pulled {show(commit.repo)} {show(commit.branch)} {commit.id} into {show(str(dest))}\n"
        f"{format_count(result.files, 'file')}, {format_bytes(result.logical)}, "
        f"{result.unchanged} unchanged; "
        f"{format_bytes(result.received)} received in {result.seconds:.1f} s ({rate})"
        f"{reused}{refused}"
    )
