"""What is copied to the workers of a TPU slice, and what installs it there."""

import contextlib
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vit_jax.errors import UserError
from vit_jax.launch import restart, shell

RUN = "vit_jax_run"  # folder in the home of every worker
WORKER = Path(__file__).with_name("worker.sh")
REPOSITORY = Path(__file__).resolve().parents[1]

# The images come with Python 3.10, which JAX no longer supports; uv brings another.
_INSTALL = f"""\
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 ~/{RUN}/venv
~/.local/bin/uv pip install --quiet --python ~/{RUN}/venv/bin/python """


class Files:
    """The files of a run.

    Args:
      verb: what follows vit_jax.
      variables: environment of every process; credentials go into a file of their own.
      wheel: what is installed instead of the files that git tracks; may be empty.
      setup: shell command before installing; may be empty.
      install: shell command that installs, instead of uv and pip; may be empty.
    """

    def __init__(self, verb: Sequence[str], variables: Mapping[str, str], wheel: str, setup: str, install: str):
        plain = {name: value for name, value in variables.items() if not shell.is_credential(name)}
        self._credentials = {name: value for name, value in variables.items() if shell.is_credential(name)}
        # JAX asks the metadata server of a TPU VM who is in the job, which no variable shows.
        exports = [f"export {text}" for text in shell.assignments({"VIT_JAX_DISTRIBUTED": "on", **plain})]
        run = f'exec "$HOME"/{RUN}/venv/bin/python -m vit_jax {shell.quote(verb)}'
        self.command = "\n".join([*exports, f'cd "$HOME"/{RUN}/code || exit 1', run]) + "\n"
        self._wheel = Path(wheel) if wheel else None
        self._setup, self._install = setup, install

    def paths(self, folder: Path, code: bool = True) -> list[Path]:
        """The files; those that are made lie in this folder. On a restart the code is there already."""
        made = [folder / "command.sh", WORKER]
        if code:
            made.append(self._wheel or folder / "code.tar.gz")
        return [*made, *([folder / "env"] if self._credentials else [])]

    def mark(self) -> str:
        """Tells this run from another, as worker.sh computes it from command.sh."""
        return hashlib.sha256(self.command.encode(errors="surrogateescape")).hexdigest()[:16]

    def about(self) -> list[str]:
        """What the files that are not shown hold."""
        lines = [] if self._wheel else [f"code.tar.gz: the files that git tracks in {REPOSITORY}"]
        if self._credentials:
            lines.append("env: the credentials of --env, readable by its owner only, deleted there once it is read")
        return lines

    def install(self) -> str:
        """Shell command that makes the copied files usable."""
        archive = f"{RUN}/{shell.quote([self._wheel.name if self._wheel else 'code.tar.gz'])}"
        unpack, what = f"mkdir -p {RUN}/code", f"{archive}'[tpu]'"
        if not self._wheel:
            unpack, what = f"{unpack}\ntar -xzf {archive} -C {RUN}/code", f"-e {RUN}/code'[tpu]'"
        steps = ["set -e", unpack, self._setup, self._install or _INSTALL + what]
        return "\n".join(step for step in steps if step)

    @contextlib.contextmanager
    def written(self, code: bool = True) -> Iterator[list[Path]]:
        """The files, in a folder that only its owner can read and that is gone afterwards.

        Raises:
          UserError: there is no code to copy.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "command.sh").write_text(self.command, errors="surrogateescape")
            if code and not self._wheel:
                pack(REPOSITORY, folder / "code.tar.gz")
            if self._credentials:
                lines = [f"{name}={shell.quote([value])}\n" for name, value in self._credentials.items()]
                (folder / "env").touch(mode=0o600)
                (folder / "env").write_text("".join(lines))
            yield self.paths(folder, code)


def pack(repository: Path, archive: Path) -> None:
    """Writes a .tar.gz of the files that git tracks, as they are on the disk now.

    Says how many files stay here because git does not know them: a forgotten config is found out before a pod is paid.

    Raises:
      UserError: not a checkout.
    """
    tracked = _git(repository, "ls-files", "-z")
    if not tracked:
        raise UserError(f"{repository} is no git checkout, so there are no files to copy; build a wheel, give --wheel")
    unknown = _git(repository, "ls-files", "-z", "--others", "--exclude-standard")
    with tarfile.open(archive, "w:gz") as tar:
        for name in tracked:
            if (repository / name).exists():
                tar.add(repository / name, arcname=name, recursive=False)
    if unknown:
        restart.say(f"not copied, because git does not track them: {len(unknown)} files, for example {unknown[0]}")


def _git(repository: Path, *command: str) -> list[str]:
    """Names of files; none where git knows nothing."""
    done = subprocess.run(["git", "-C", str(repository), *command], capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name]
