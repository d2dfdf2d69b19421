"""Options of vswap run: where they end, where they come from, what is refused."""

from __future__ import annotations

import os

import pytest

from vswap.errors import ConfigError
from vswap.run.environment import command_environment, is_off, preload_list
from vswap.run.options import OPTIONS, build_parser, divide, parse_run, variable

MIB = 1 << 20


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["cmd", "--ram", "x"], 0),
        (["--ram", "300M", "cmd", "--report"], 2),
        (["--ram=300M", "--report", "cmd", "-x"], 2),
        (["--report", "--", "--odd-name", "--"], 1),
        (["--swap", "none", "-"], 2),
        (["--ram"], 1),
        ([], 0),
    ],
)
def test_options_end_at_the_first_word(words: list[str], own: int) -> None:
    mine, command = divide(words)
    assert mine == words[:own]
    rest = words[own:]
    assert command == (rest[1:] if rest[:1] == ["--"] else rest)


def test_every_option_is_read_from_the_command_line() -> None:
    line = "--ram 300M --swap none --codec zstd:3 --dedup space --faults signal --min-alloc 128K"
    assert not parse_run([*line.split(), "c"], {}).direct
    options = parse_run(
        [*line.split(), "--report", "--report-json", "/r", "--allow-unmanaged", "c", "-a"], {}
    )
    assert options.command == ("c", "-a")
    assert (options.ram, options.swap) == (300 * MIB, ("none",))
    assert (options.codec, options.faults, options.min_alloc) == ("zstd:3", "signal", 128 << 10)
    assert options.dedup == "space"
    assert options.report
    assert options.report_json == "/r"
    assert options.allow_unmanaged
    assert options.wants_report


def test_without_the_virtual_layer_slots_are_the_usual_swap() -> None:
    for words, environ in ((["--direct", "c"], {}), (["c"], {"VSWAP_VIRTUAL": "no"})):
        options = parse_run(words, environ)
        assert options.direct
        assert options.swap == ("slots:auto",)
        made = command_environment({}, options, "/lib", None)
        assert (made["VSWAP_VIRTUAL"], made["VSWAP_SWAP"]) == ("no", "slots:auto")
    with pytest.raises(ConfigError, match="VSWAP_VIRTUAL"):
        parse_run(["c"], {"VSWAP_VIRTUAL": "perhaps"})


def test_every_option_is_read_from_the_environment_and_the_line_wins() -> None:
    environ = {
        "VSWAP_RAM": "64M",
        "VSWAP_SWAP": "none",
        "VSWAP_CODEC": "zstd",
        "VSWAP_DEDUP": "off",
        "VSWAP_GROUP": "web:zswap_max=4M",
        "VSWAP_FAULTS": "thread",
        "VSWAP_MIN_ALLOC": "1M",
        "VSWAP_VIRTUAL": "yes",
        "VSWAP_REPORT": "1",
        "VSWAP_REPORT_JSON": "/j",
        "VSWAP_ALLOW_UNMANAGED": "yes",
    }
    assert set(environ) == {variable(name) for name, _, _ in OPTIONS}
    options = parse_run(["c"], environ)
    assert (options.ram, options.swap, options.codec) == (64 * MIB, ("none",), "zstd")
    assert (options.faults, options.min_alloc, options.report_json) == ("thread", MIB, "/j")
    assert (options.dedup, options.group) == ("off", f"web:zswap_max={4 * MIB}")
    assert options.report
    assert options.allow_unmanaged
    assert parse_run(["--ram", "32M", "c"], environ).ram == 32 * MIB


def test_the_defaults_are_those_of_the_documents() -> None:
    options = parse_run(["c"], {})
    assert (options.swap, options.codec, options.faults) == (("auto",), "lz4", "auto")
    assert options.dedup == "group"
    assert options.min_alloc is None
    assert not options.wants_report
    assert options.ram >= 16 * MIB


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--ram", "8M", "c"], "floor"),
        (["--ram", "lots", "c"], "lots"),
        (["--ram", "200%", "c"], "percentage"),
        (["--direct", "--swap", "auto", "c"], "slots:auto"),
        (["--codec", "lzma", "c"], "lzma"),
        (["--codec", "lz4:3", "c"], "lz4:3"),
        (["--dedup", "always", "c"], "always"),
        (["--faults", "maybe", "c"], "maybe"),
        (["--group", ":ram_max=1M", "c"], "not a group"),
        (["--group", "web:ram_max", "c"], "not SETTING=VALUE"),
        (["--group", "web:ram_max=lots", "c"], "lots"),
        (["--group", "web:speed=11", "c"], "no setting"),
        (["--group", "web:writeback=maybe", "c"], "no setting"),
        (["--group", "web", "--direct", "c"], "nobody is charged"),
        (["--min-alloc", "1", "c"], "4096"),
        (["--ram", "64M"], "no command"),
        ([], "no command"),
    ],
)
def test_a_wrong_value_is_named(words: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        parse_run(words, {})


def test_a_wrong_switch_in_the_environment_is_named() -> None:
    with pytest.raises(ConfigError, match="VSWAP_REPORT is a switch"):
        parse_run(["c"], {"VSWAP_REPORT": "maybe"})


@pytest.mark.parametrize("words", [["--rom", "c"], ["--report=yes", "c"], ["--ram"], ["--r", "c"]])
def test_an_unknown_option_is_explained_by_argparse(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_run(words, {})
    assert "vswap run: error" in capsys.readouterr().err


def test_help_names_every_option_and_variable() -> None:
    text = build_parser().format_help()
    for name, _, _ in OPTIONS:
        assert name in text


def test_the_command_is_started_with_the_engine_and_its_configuration() -> None:
    options = parse_run(["--ram", "64M", "--swap", "none", "c"], {})
    path = f"/proc/{os.getpid()}/fd/200"
    before = {"PATH": "/bin", "VSWAP_REPORT": "1", "LD_PRELOAD": "/a.so"}
    made = command_environment(before, options, "/lib/libvswap.so.1", 200)
    assert made == {
        "PATH": "/bin",
        "LD_PRELOAD": "/lib/libvswap.so.1:/a.so",
        "VSWAP_RAM": str(64 * MIB),
        "VSWAP_SWAP": "none",
        "VSWAP_CODEC": "lz4",
        "VSWAP_DEDUP": "group",
        "VSWAP_VIRTUAL": "yes",
        "VSWAP_FAULTS": "auto",
        "VSWAP_MIN_ALLOC": "auto",
        "VSWAP_TREE_FD": "200",
        "VSWAP_TREE_PATH": path,
    }


def test_a_group_is_told_to_the_engine_with_whole_sizes_and_paths() -> None:
    spec = "web:ram_max=1.5M,zswap_max=none,writeback=off,device=swap,device=auto"
    options = parse_run(["--group", spec, "c"], {})
    told = f"web:ram_max={3 * MIB // 2},zswap_max=none,writeback=off,device={os.getcwd()}/swap"
    assert command_environment({}, options, "/lib", None)["VSWAP_GROUP"] == f"{told},device=auto"
    plain = parse_run(["c"], {})
    assert "VSWAP_GROUP" not in command_environment({"VSWAP_GROUP": "old"}, plain, "/lib", None)


def test_another_engine_is_taken_out_of_the_preload_list() -> None:
    assert preload_list("", "/l/libvswap.so.1") == "/l/libvswap.so.1"
    assert preload_list("/x/libvswap.so.1 /y.so:/z/libvswap.so.2", "/l/libvswap.so.1") == (
        "/l/libvswap.so.1:/y.so"
    )


def test_vswap_off_is_understood() -> None:
    assert is_off({"VSWAP": "off"})
    assert not is_off({})
