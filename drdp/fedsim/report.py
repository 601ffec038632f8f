"""A folder of a run, or of a comparison of methods, as one page that stands alone.

The page holds its pictures as text and loads nothing, so that it can be sent as it
is; it shows nothing that is marked private unless it is asked to.
"""

from __future__ import annotations

from pathlib import Path

from drdp.errors import RunFolderError
from drdp.fedsim.comparison_page import comparison_findings, comparison_page
from drdp.fedsim.evidence import evidence
from drdp.fedsim.findings import Document, run_findings
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.run_page import run_page

__all__ = ["gathered", "page_of"]


def gathered(path: Path, *, private: bool = False) -> Document:
    """What a report of a folder shows, as plain data.

    Args:
        path: A folder written by ``drdp train`` or ``drdp compare-methods``.
        private: Whether what only the operator may see is added; runs only.

    Guarantees:
        Every epsilon that is called certified is at least the true one of what
        the run's ledger holds.

    Raises:
        RunFolderError: If the folder is neither, or is damaged.
    """
    folder = RunFolder(path)
    if folder.started:
        return run_findings(evidence(folder), private=private)
    try:
        runs = sorted(
            one for one in path.iterdir() if one.is_dir() and RunFolder(one).started
        )
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read as a folder: {error.strerror}"
        ) from None
    if not runs:
        raise RunFolderError(
            f"there is no run in {path}: give a folder that drdp train or drdp"
            " compare-methods has written"
        )
    if private:
        raise RunFolderError(
            f"{path} is a comparison, which shows nothing private; ask for one of its"
            f" runs, such as {runs[0]}"
        )
    return comparison_findings(path.resolve().name, runs)


def page_of(found: Document) -> str:
    """The page of what was gathered: HTML that refers to nothing outside itself."""
    if found["kind"] == "comparison":
        return comparison_page(found)
    return run_page(found)
