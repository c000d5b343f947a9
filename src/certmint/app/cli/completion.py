"""`certmint completion`: what makes a shell complete our commands and options."""

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_CERTMINT_COMPLETE"
_SHELLS = ["bash", "zsh", "fish"]


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a script that makes SHELL complete nouns, verbs and options.

    \b
    bash  eval "$(certmint completion bash)"  in ~/.bashrc
    zsh   eval "$(certmint completion zsh)"  in ~/.zshrc, after compinit
    fish  certmint completion fish > ~/.config/fish/completions/certmint.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(made(root, {}, "certmint", _VARIABLE).source())
