"""`lora push`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.plugin.problems import PluginError
from lora_operator.plugin.screen import Screen
from lora_operator.terminal.opening import opened

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
CONVERT = (
    "such files can run any code when they are read; save it as safetensors: "
    "model.save_pretrained('NEW', safe_serialization=True)"
)


async def run(arguments: argparse.Namespace) -> int:
    files, name = files_of(Path(arguments.path))
    fields = [("name", arguments.name or name)]
    fields += [("tags[]", tag) for tag in arguments.tag or ()]
    for field in ("base_model", "description", "metadata"):
        if getattr(arguments, field) is not None:
            fields.append((field, getattr(arguments, field)))
    async with opened(arguments) as client:
        with _progress(sum(each.stat().st_size for each in files), arguments.quiet) as sent:
            made = await client.upload(fields, files, sent)
    screen = Screen(arguments.output)
    screen.show(
        made,
        lambda: screen.line(
            f"{made['name']}, version {made['version']}, for {made['base_model']}; call it as {made['model']}"
        ),
    )
    return 0


def files_of(path: Path) -> tuple[list[Path], str]:
    """What is sent of a folder or an archive, and the name that it suggests. Raises PluginError."""
    if path.is_file():
        ending = next((each for each in ARCHIVES if path.name.lower().endswith(each)), None)
        if ending is None:
            hint = CONVERT if path.suffix in PICKLES else "give the folder that it is in, or an archive"
            raise PluginError(f"{path} is no adapter: {hint}")
        return [path], path.name[: -len(ending)]
    if not path.is_dir():
        raise PluginError(f"{path} is neither a folder nor an archive")
    files = [path / each for each in (CONFIG_FILE, WEIGHTS_FILE)]
    missing = [each.name for each in files if not each.is_file()]
    if missing:
        pickles = sorted(each.name for each in path.iterdir() if each.suffix in PICKLES)
        inside = sorted(each.parent.name for each in path.glob(f"*/{WEIGHTS_FILE}"))
        hint = (
            f"{pickles[0]} is there, but {CONVERT}" if pickles and WEIGHTS_FILE in missing
            else f"there are adapters in {', '.join(inside[:5])}: push one of them" if inside
            else "push the folder that PEFT's save_pretrained has written"
        )  # fmt: skip
        raise PluginError(f"{path} has no {' and no '.join(missing)}: {hint}")
    return files, path.resolve().name


@contextlib.contextmanager
def _progress(size_bytes: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on the standard error, where somebody looks at it."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("uploads", total=size_bytes)
        went = 0

        def sent(more: int) -> None:
            nonlocal went
            went += more
            words = "uploads" if went < size_bytes else "is checked and stored"
            bar.update(task, completed=went, description=words)

        yield sent
