"""The door: help without imports, one line for a mistake, quiet endings."""

import os
import resource
import signal
import subprocess
import sys

import pytest

import drdp
from drdp.cli import main, spend
from drdp.errors import MissingPackageError

COMMANDS = (
    *("calibrate", "epsilon", "delta", "steps", "rate", "risk", "table", "curve"),
    *("threat", "sweep", "statement", "compare", "audit"),
)


@pytest.mark.parametrize("line", ["", "--help", "-h"])
def test_help_lists_every_command(drdp, line):
    session = drdp(line)
    assert session.code == 0
    assert session.err == ""
    for command in COMMANDS:
        assert f"\n  {command} " in session.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples_that_fit(drdp, command):
    session = drdp(f"{command} --help")
    assert session.code == 0
    examples = session.out.split("Examples:")[1]
    assert examples.count(f"drdp {command}") >= 2
    assert max(map(len, session.out.splitlines())) <= 80


def test_version(drdp):
    assert drdp("--version").out.split() == ["drdp,", "version", _version()]


def _version():
    return drdp.__version__


def test_python_m_is_the_same_door(python):
    session = python("-m", "drdp", "--help")
    assert session.returncode == 0
    assert session.stdout.startswith("Usage: drdp ")
    assert session.stderr == ""


def test_help_imports_no_command_and_no_numerics(python):
    program = (
        "import sys\n"
        "from drdp.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "bad = [m for m in sys.modules if m.startswith(('numpy', 'scipy', 'numba',"
        " 'torch', 'matplotlib', 'drdp.privacy', 'drdp.cli.'))]\n"
        "print(sorted(bad), file=sys.stderr)\n"
    )
    session = python("-c", program)
    assert session.stderr.strip() == "['drdp.cli.entry']"


def test_calibrate_imports_only_what_it_needs(python):
    program = (
        "import sys\n"
        "from drdp.cli import main\n"
        "line = 'calibrate --epsilon 2 --steps 20 --rate 0.05'\n"
        "try:\n    main(line.split())\nexcept SystemExit as end:\n"
        "    assert not end.code\n"
        "bad = {'numba', 'torch', 'matplotlib', 'scipy.stats', 'prv_accountant'}\n"
        "print(sorted(bad & set(sys.modules)), file=sys.stderr)\n"
    )
    session = python("-c", program)
    assert session.stderr.strip() == "[]"


def test_help_takes_under_a_fifth_of_a_second(python):
    def cpu():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    spent = []
    for _ in range(3):
        before = cpu()
        python("-m", "drdp", "--help")
        spent.append(cpu() - before)
    assert min(spent) < 0.2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("calibrat", "'calibrat'; the commands are calibrate, epsilon"),
        ("--frobnicate", "--frobnicate"),
        ("calibrate --epsilon 2 --steps 20 --rate 0.05 extra", "extra"),
        ("calibrate --sigmoid 2", "--sigmoid"),
        ("calibrate --epsilon", "--epsilon"),
    ],
)
def test_a_mistyped_line_is_one_line(drdp, line, says):
    session = drdp(line)
    assert session.code == 2
    assert session.out == ""
    assert session.err.count("\n") == 1
    assert session.err.startswith("Error: ")
    assert says in session.err


LINE = ["epsilon", "--sigma", "1", "--steps", "20", "--rate", "0.05"]


def test_an_error_of_the_library_is_one_line(monkeypatch, capsys):
    def fail(*_, **__):
        raise MissingPackageError("two\nlines")

    monkeypatch.setattr(spend, "spend", fail)
    with pytest.raises(SystemExit) as end:
        main(LINE)
    assert end.value.code == 2
    assert capsys.readouterr().err == "Error: two lines\n"


def test_an_interrupt_exits_with_130(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(spend, "spend", interrupt)
    with pytest.raises(SystemExit) as end:
        main(LINE)
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_real_interrupt_is_quiet():
    # Minutes of work, so that it is surely under way and surely not done.
    line = "curve --sigma 0.5,0.6 --steps 1000 --rate 0.0001 --points 1001"
    process = subprocess.Popen(
        [sys.executable, "-m", "drdp", *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=4.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == ""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_closed_pipe_is_silent():
    line = "curve --sigma 1,2 --steps 1000 --rate 0.05 --points 501 --accountant gdp"
    session = subprocess.run(
        f"{sys.executable} -m drdp {line} | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert session.stdout.startswith("# epsilon against rounds")
    assert session.stdout.count("\n") == 1
    assert session.stderr == ""
