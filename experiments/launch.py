"""What all launchers share: from the command line to a checked configuration."""

import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Sequence

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from unetjax.devices import runtime
from unetjax.training import config as configs
from unetjax.training.config import ExperimentConfig
from unetjax.training.stopping import Interrupted


def launch(main: Callable[[ExperimentConfig], None]) -> None:
    """Reads the command line, runs `main` with the configuration, and exits.

    The exit code is 2, after one sentence, for anything the user can mend, and 128 plus
    the signal if the run was stopped.
    """
    runtime.prepare()
    file, overrides, words = split_words(sys.argv)
    app.run(lambda _: _exit_with(main, file, overrides), argv=words)


def split_words(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Returns the config file, the overrides of its options, and all other words.

    Example:
      >>> split_words(["train.py", "--out", "a", "--config=b.py", "--config.c", "1"])
      ('b.py', ['--config.c=1'], ['train.py', '--out', 'a'])
    """
    file, overrides, others, words = "", list[str](), list[str](), iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"--?config(\.[\w.]+)?", name):
            others.append(word)
            continue
        value = value if equals else next(words, "")
        if "." in name:
            overrides.append(f"{name}={value}")
        else:
            file = value
    return file, overrides, others


def read_config(file: str, overrides: Sequence[str]) -> ExperimentConfig:
    """Returns the configuration of a file with its overrides.

    Every option can be overridden, whether the file spells it or not.

    Args:
      file: FILE.py, or FILE.py:ARGUMENT for an argument of its `get_config`.
      overrides: Any number of `--config.SECTION.OPTION=VALUE`.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If no file is named, or an option is unknown or illegal.
    """
    options = configs.to_dict(configs.from_dict(load_file(file)))
    for word in overrides:
        name = word.partition("=")[0].lstrip("-").removeprefix("config.")
        configs.check_name(name)
    config, values = ml_collections.ConfigDict(options), flags.FlagValues()
    config_flags.DEFINE_config_dict(
        "config",
        config,
        flag_values=values,
        sys_argv=["", *overrides],
    )
    try:
        values(["", *overrides])
    except flags.Error as error:
        raise ValueError(f"{error}.") from None
    return configs.from_dict(config.to_dict())


def load_file(file: str) -> dict[str, object]:
    """Returns the options that `get_config` of a file gives, as plain data."""
    path, _, argument = file.partition(":")
    if not path:
        raise ValueError(
            "--config names no file; try --config=ml_collections_configs/smoke.py, or "
            "another one of that folder."
        )
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"--config={path} is no file; name a .py file.")
    namespace = runpy.run_path(path)
    if "get_config" not in namespace:
        raise ValueError(f"{path} has no function get_config; it must return a config.")
    arguments = [argument] if argument else []
    return namespace["get_config"](*arguments).to_dict()


def _exit_with(
    main: Callable[[ExperimentConfig], None], file: str, overrides: Sequence[str]
) -> None:
    logging.set_verbosity(logging.ERROR)  # Orbax reports every save
    try:
        config = read_config(file, overrides)  # computes nothing, so it is early enough
        runtime.set_compiler_flags(deterministic=config.deterministic)
        main(config)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        _refuse(error)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.signum)


def _refuse(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
