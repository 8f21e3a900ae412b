"""The ways to run the bot that its page shows are read by what would run them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from training.commands.post import app
from training.errors import UserError

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "bot.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.M | re.S)


def options() -> set[str]:
    import typer

    command = typer.main.get_command(app)
    return {name for option in command.params for name in option.opts}


def test_the_compose_file_is_valid_and_its_command_is_the_bots() -> None:
    (block,) = blocks("yaml")
    bot = yaml.safe_load(block)["services"]["bot"]
    command = bot["command"]
    assert command[:4] == ["python", "-m", "training", "post"]
    assert {word for word in command if word.startswith("--")} <= options()
    history = Path(bot["environment"]["INKWELL_POST_HISTORY"]).parent
    assert [volume.partition(":")[2] for volume in bot["volumes"]] == [str(history)]
    if shutil.which("docker"):
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if done.returncode == 0:
            checked = subprocess.run(
                ["docker", "compose", "-f", "-", "config", "--quiet", "--no-consistency"],
                input=block,
                text=True,
                capture_output=True,
                check=False,
            )
            assert "services.bot" not in checked.stderr


def test_the_units_are_what_systemd_reads(tmp_path: Path) -> None:
    service, timer = blocks("ini")
    assert "RestartPreventExitStatus=2 12" in service
    assert set(re.findall(r"(--[a-z-]+)", service)) <= options()
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    # what it names has to exist for systemd; here that is any program and any file
    (tmp_path / "bot.env").write_text("A=b\n")
    service = re.sub(r"ExecStart=\S+", f"ExecStart={shutil.which('true')}", service)
    service = service.replace("%h/.config/inkwell/bot.env", str(tmp_path / "bot.env"))
    service = service.replace("WorkingDirectory=%h/inkwell", f"WorkingDirectory={tmp_path}")
    for name, text in (("inkwell-post.service", service), ("inkwell-post.timer", timer)):
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "inkwell-post" not in done.stderr, done.stderr
    calendar = re.search(r"OnCalendar=(.*)", timer)
    assert calendar is not None
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=6", calendar[1]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    hours = re.findall(r"(?:Next elapse|Iteration #\d+|Iter\. #\d+): \w+ \S+ (\d\d):00:00", done.stdout)
    assert sorted(hours) == ["00", "04", "08", "12", "16", "20"]


def test_the_line_for_cron_runs_six_times_a_day() -> None:
    (line,) = (text for text in PAGE.splitlines() if text.startswith("0 *"))
    minute, hour, day, month, weekday, command = line.split(maxsplit=5)
    assert (minute, hour, day, month, weekday) == ("0", "*/4", "*", "*", "*")
    assert "%" not in command  # cron reads a percent sign as a line end
    words = shlex.split(command)
    assert {word for word in words if word.startswith("--")} <= options()


def test_exit_codes_that_end_the_retries_are_those_of_the_tree() -> None:
    from training.bot.errors import AuthFailed

    assert (UserError.exit_code, AuthFailed.exit_code) == (2, 12)
