"""A run's folder: what is in it, and how it survives being killed.

- ``config.toml``: all settings, defaults included;
- ``plan.json``: what was worked out before the first round;
- ``ledger.sqlite``: what was spent;
- ``metrics.jsonl``: a line per round;
- ``checkpoint.safetensors``: the state after the last whole round;
- ``secret.key``: the key of cohorts and noise, erased at the end;
- ``held_out.json``: the loss of each held-out example, before and after;
- ``questions.json``: the answers to benchmarks, before and after;
- ``adapter/``, ``statement.txt``, ``statement.json``: the result.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from drdp.errors import InvalidArgumentError, MissingPackageError, RunFolderError
from drdp.fedsim.checkpoint import packed, unpacked
from drdp.fedsim.config import Config, read, written
from drdp.fedsim.documents import finite, toml
from drdp.fedsim.exams import known_results
from drdp.fedsim.measured import measured

if TYPE_CHECKING:
    from drdp.fedsim.simulate import State

__all__ = ["RunFolder"]

_CONFIG = "config.toml"
_QUESTIONS = "questions.json"
_CHECKPOINT = "checkpoint.safetensors"


@final
class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._made: list[Path] = []

    @property
    def ledger(self) -> Path:
        """The durable record of what was spent."""
        return self.path / "ledger.sqlite"

    @property
    def key(self) -> Path:
        """The secret key, while the run goes on."""
        return self.path / "secret.key"

    @property
    def adapter(self) -> Path:
        """The trained adapter, in peft's own format."""
        return self.path / "adapter"

    @property
    def metrics(self) -> Path:
        """One JSON document a line."""
        return self.path / "metrics.jsonl"

    @property
    def started(self) -> bool:
        """Whether there is a run in this folder."""
        return (self.path / _CONFIG).exists()

    @property
    def paid(self) -> bool:
        """Whether the run has come so far that something may have been released."""
        return self.ledger.exists() or (self.path / "plan.json").exists()

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end: the statement is its last file."""
        return self.started and (self.path / "statement.json").exists()

    def begin(self, config: Config) -> None:
        """Make the folder and write the settings.

        Raises:
            RunFolderError: If there is something in it already.
        """
        try:
            self._make()
        except OSError as error:
            raise RunFolderError(
                f"cannot make the run folder {self.path}: {error.strerror}; choose"
                " another one with --out"
            ) from None
        self.check_vacant()
        self._write(_CONFIG, toml(written(config)).encode())

    def check_vacant(self) -> None:
        """Raise a RunFolderError where something is in it, and leave it as it is."""
        if not self.path.is_dir():
            return
        try:
            taken = sorted(
                one.name
                for one in self.path.iterdir()
                if one.name not in ("lock", f".{_CONFIG}.part")
            )
        except OSError as error:
            raise RunFolderError(
                f"cannot look into {self.path}: {error.strerror}; choose another"
                " folder with --out"
            ) from None
        if self.started:
            raise RunFolderError(
                f"{self.path} holds a run already; go on with --resume, or choose"
                " another folder with --out"
            )
        if taken:
            raise RunFolderError(
                f"{self.path} is not empty (it holds {taken[0]}); choose another"
                " folder with --out"
            )

    def withdraw(self) -> None:
        """Undo `begin` where nothing was released yet, so that it can be tried again.

        A run whose settings turn out to be impossible leaves nothing behind, and
        a folder that was there before stays.
        """
        if self.paid:
            return
        with contextlib.suppress(OSError):
            self.erase_key()
            for name in (_CONFIG, f".{_CONFIG}.part", "codec.safetensors", "lock"):
                (self.path / name).unlink(missing_ok=True)
            self._unmake()

    def config(self) -> Config:
        """The settings that the run began with.

        Raises:
            RunFolderError: If there is no run in the folder.
        """
        import tomllib

        try:
            text = (self.path / _CONFIG).read_text(encoding="utf-8")
            return read(tomllib.loads(text))
        except FileNotFoundError:
            raise RunFolderError(
                f"there is no run in {self.path} to resume: {_CONFIG} is missing"
            ) from None
        except (
            OSError,
            tomllib.TOMLDecodeError,
            UnicodeDecodeError,
            InvalidArgumentError,
        ) as error:
            raise RunFolderError(
                f"{self.path / _CONFIG} cannot be read: {error}"
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; a killed one lets go.

        Raises:
            RunFolderError: If another process has it.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError:
            raise MissingPackageError(
                "a training run needs filelock and more: pip install 'drdp[train]'"
            ) from None
        try:
            self._make()
            lock = FileLock(self.path / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise RunFolderError(
                f"another process is running in {self.path}; wait for it, or choose"
                " another folder"
            ) from None
        except OSError as error:
            with contextlib.suppress(OSError):
                self._unmake()
            raise RunFolderError(
                f"cannot write to the run folder {self.path}: {error.strerror}"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _make(self) -> None:
        """The folder, for its owner alone: much in it is private."""
        for place in reversed((self.path, *self.path.parents)):
            with contextlib.suppress(FileExistsError):
                if not place.is_dir():
                    place.mkdir(mode=0o700 if place == self.path else 0o777)
                    self._made.append(place)

    def _unmake(self) -> None:
        """Take back the folders that were made here, as far as they are empty."""
        while self._made:
            self._made[-1].rmdir()
            self._made.pop()

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep what was worked out before the first round."""
        self.write_json("plan.json", plan)

    def plan(self) -> dict[str, Any] | None:
        """What was worked out, or None if the run had not come that far."""
        try:
            return self._read_json("plan.json")
        except FileNotFoundError:
            return None

    def result(self) -> dict[str, Any]:
        """What a finished run came to: metrics, plan and statement.

        Raises:
            RunFolderError: If it is not finished, or a file of it is damaged.
        """
        try:
            statement = self._read_json("statement.json")
        except FileNotFoundError:
            raise RunFolderError(f"{self.path} holds no finished run") from None
        plan, records = self.plan(), self.records()
        taken = [found for one in records if (found := measured(one))]
        if plan is None or not taken:
            raise RunFolderError(f"{self.path} is damaged: its plan or metrics miss")
        secret = statement.pop("noise_is_secret", None)
        beside = statement.pop("ew_tune", None)
        return {
            "folder": str(self.path),
            "rounds": records[-1]["round"],
            "before": taken[0],
            "after": taken[-1],
            "benchmarks": known_results(self.answers()),
            "plan": plan,
            "statement": statement,
            "noise_is_secret": secret,
            "clip_norm": records[-1].get("clip_norm"),
            "ew_tune": beside,
        }

    def answers(self) -> dict[str, Any]:
        """What is kept of benchmarks; empty where none were asked."""
        try:
            return self._read_json(_QUESTIONS)
        except FileNotFoundError:
            return {}

    def keep_answers(self, kept: Mapping[str, Any]) -> None:
        """Keep what was answered, whole or not at all."""
        self.write_json(_QUESTIONS, kept)

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """A JSON file, whole or not at all."""
        text = json.dumps(finite(document), indent=2, allow_nan=False) + "\n"
        self._write(name, text.encode())

    def write_text(self, name: str, text: str) -> None:
        """A text file, whole or not at all."""
        self._write(name, text.encode())

    def save(self, state: State) -> None:
        """Keep the state of the run, whole or not at all."""
        self._write(_CHECKPOINT, packed(state))

    def load(self) -> State | None:
        """The last state that was kept, or None.

        Raises:
            RunFolderError: If the checkpoint is damaged.
        """
        file = self.path / _CHECKPOINT
        return unpacked(file) if file.exists() else None

    def log(self, record: Mapping[str, Any]) -> None:
        """One more line of metrics, on disk before this returns."""
        try:
            with self.metrics.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(finite(record), allow_nan=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise RunFolderError(
                f"cannot write {self.metrics}: {error.strerror}; the run goes on from"
                " its checkpoint with --resume"
            ) from None

    def records(self) -> list[dict[str, Any]]:
        """The metrics so far; a line that was cut off by a crash is left out."""
        found: list[dict[str, Any]] = []
        if not self.metrics.exists():
            return found
        try:
            text = self.metrics.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RunFolderError(
                f"{self.metrics} cannot be read: {error.strerror}"
            ) from None
        for line in text.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict) or record.get("round") != len(found):
                break
            found.append(record)
        return found

    def rewind(self, rounds: int) -> None:
        """Drop metrics of rounds that the checkpoint does not have.

        Raises:
            RunFolderError: If one of those that it has is missing: metrics are on
                the disk before the checkpoint, so the file was damaged.
        """
        kept = self.records()[: rounds + 1]
        if len(kept) <= rounds:
            raise RunFolderError(
                f"{self.metrics} is damaged: round {len(kept)} is missing, but the"
                f" checkpoint has {rounds}; put the file back from a copy"
            )
        text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in kept)
        self._write(self.metrics.name, text.encode())

    def erase_key(self) -> None:
        """Forget the key: from now on nobody can replay the noise."""
        rough = self.key.with_name(f".{self.key.name}.part")
        for file in (rough, self.key):
            try:
                size = file.stat().st_size
                with file.open("r+b") as stream:
                    stream.write(bytes(size))
                    stream.flush()
                    os.fsync(stream.fileno())
                file.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunFolderError(
                    f"cannot erase {file}: {error.strerror}; delete it: whoever has it"
                    " can replay the noise"
                ) from None

    def _read_json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{file} cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise RunFolderError(f"{file} cannot be read: it is not a JSON object")
        return found

    def _write(self, name: str, content: bytes) -> None:
        target = self.path / name
        rough = self.path / f".{name}.part"
        try:
            with rough.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            rough.replace(target)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise RunFolderError(
                f"cannot write {target}: {error.strerror}; what was there before is"
                " untouched"
            ) from None
