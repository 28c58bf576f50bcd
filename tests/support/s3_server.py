"""A real S3 server process on loopback, for tests: ministack, from its own virtual environment."""

import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import boto3.session
from botocore.config import Config

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret"}
# What clients in this and in child processes find in place of the machine's own configuration.
CLIENT_ENVIRONMENT = {
    **CREDENTIALS,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}
FOREIGN_ENVIRONMENT = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
]
HOW_TO_INSTALL = (
    "no S3 server: python -m venv .venv-s3 && .venv-s3/bin/pip install ministack==1.5.33, "
    "or name the executable in WEIGHTVAULT_TEST_MINISTACK"
)
START_SECONDS = 30


def find_executable() -> Path | None:
    """Returns the server's executable, None where it is not installed."""
    default = Path(__file__).parents[2] / ".venv-s3" / "bin" / "ministack"
    path = Path(os.environ.get("WEIGHTVAULT_TEST_MINISTACK", default))
    return path if path.is_file() else None


class S3Endpoint:
    """A running S3 server, whoever started it."""

    def __init__(
        self, endpoint: str, credentials: dict[str, str], certificate: Path | None = None
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.certificate = certificate
        # Clients of one session share what takes 0.2 s to load.
        self._session = boto3.session.Session()

    @cached_property
    def _admin(self) -> Any:
        return self.client()

    def client(self, **config: Any) -> Any:
        """Returns a boto3 client that bypasses weightvault."""
        return self._session.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
            verify=str(self.certificate) if self.certificate else None,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def new_bucket(self) -> str:
        """Makes an empty bucket and returns its name."""
        name = f"test-{uuid4().hex}"
        self._admin.create_bucket(Bucket=name)
        return name

    def url(self, bucket: str, prefix: str = "") -> str:
        """Returns the address of a store in a bucket, as `open_backend` takes it."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&region=us-east-1"


def named_endpoint() -> S3Endpoint | None:
    """Returns the server that WEIGHTVAULT_TEST_S3 names as http://KEY:SECRET@HOST:PORT, if any."""
    named = urlsplit(os.environ.get("WEIGHTVAULT_TEST_S3", ""))
    if not named.hostname:
        return None
    pair = {"AWS_ACCESS_KEY_ID": named.username, "AWS_SECRET_ACCESS_KEY": named.password}
    credentials = {name: unquote(value or "") for name, value in pair.items()}
    return S3Endpoint(f"{named.scheme}://{named.netloc.rpartition('@')[2]}", credentials)


class S3Server(S3Endpoint):
    """One server on a free port of 127.0.0.1, its objects in files below `folder`.

    They outlive `kill`. With `tls` it speaks https under a certificate of its own, `certificate`.
    """

    def __init__(self, executable: Path, folder: Path, *, tls: bool = False) -> None:
        self.port = _free_port()
        certificate = _make_certificate(folder) if tls else None
        endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        super().__init__(endpoint, CREDENTIALS, certificate)
        self._executable = executable
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        log = self._folder / "log.txt"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._executable], env=self._environment(), stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the S3 server did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        tls = {
            "USE_SSL": "1",
            "MINISTACK_SSL_CERT": str(self.certificate),
            "MINISTACK_SSL_KEY": str(folder / "key.pem"),
        }
        return {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            # The default is every address of the machine.
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "s3",
            "LOG_LEVEL": "WARNING",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(folder / "s3"),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(folder / "state"),
            "AUTH": "true",
            **CREDENTIALS,
            **(tls if self.certificate else {}),
        }

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        try:
            health = f"{self.endpoint}/_ministack/health"
            # Without the proxies that the environment may name.
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with opener.open(health, timeout=5):
                return True
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _make_certificate(folder: Path) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("openssl is needed for an S3 server over TLS")
    certificate = folder / "certificate.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", certificate]
    subprocess.run([*command.split(), *subject, *files], check=True, capture_output=True)
    return certificate
