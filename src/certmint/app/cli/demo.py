"""`certmint demo`."""

from pathlib import Path

import click

from certmint.app.cli.common import log_to_stderr


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True,
    help="A folder of its own; an earlier demo in it is replaced.",
)  # fmt: skip
def demo(folder: Path) -> None:
    """Play the whole router story, on real parts, on loopback, in under a minute."""
    from certmint.app.demo.narrator import NotProved
    from certmint.app.demo.story import play
    from certmint.model.errors import Misconfigured

    log_to_stderr("error")
    try:
        play(folder)
    except NotProved as failure:
        raise Misconfigured(failure.code, str(failure)) from None
