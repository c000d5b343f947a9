"""The whole story, in order."""

from pathlib import Path

import click

from certmint.app.demo import field, ground
from certmint.app.demo.narrator import Narrator
from certmint.app.demo.world import build


def play(folder: Path) -> None:
    """Play the seven steps in `folder`. Raises NotProved when something is not as told."""
    say = Narrator()
    click.secho("certmint: from the factory to the browser", bold=True)
    click.echo(f"Everything below happens in {folder.resolve()}, on loopback.")
    world = build(folder, say)
    try:
        ground.dns(world)
        ground.validate(world)
        ground.certify(world)
        ground.factory(world)
        routers = field.first_boot(world)
        field.who_asks(world, routers)
        field.life(world, routers)
    finally:
        world.close()
    say.table()
    config = world.here.config.path
    click.secho("\nNext", bold=True)
    click.echo(f"  export CERTMINT_CONFIG={config}")
    click.echo("  certmint device show R000001 -m example")
    click.echo("  certmint audit verify")
    click.echo("  certmint serve")
