"""The command that answers questions: chat."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.base import (
    DEFAULT_CONFIG,
    AsOption,
    ConfigOption,
    JsonOption,
    Stopped,
    app,
    ask,
    can_ask,
    command,
    console_for,
    open_workflow,
    write_json,
)
from advisor.errors import AdvisorError, SettingsInvalid

if TYPE_CHECKING:
    from rich.console import Console

    from advisor.chat import Chat, Conversation, Said
    from advisor.workflow import Workflow


@app.command()
@command
def chat(
    question: Annotated[
        str | None, typer.Argument(help="One question; without it a session begins.", metavar="QUESTION")
    ] = None,
    person: AsOption = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Answer by rules only.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Answer questions about incidents; nothing is approved, applied or rolled back here."""
    workflow = open_workflow(config)
    service = _chat_of(workflow, person, no_model)
    conversation = service.begin()
    if question is not None:
        console = console_for(to_stderr=as_json)
        _conversation, said = _one(console, service, conversation, question)
        if as_json:
            write_json({"schema": "advisor.chat/v1", "question": question, **said.model_dump(mode="json")})
        return
    if as_json:
        raise SettingsInvalid("chat --json: give the question as an argument")
    console = console_for()
    if not can_ask(console):
        for line in sys.stdin:
            if line.strip():
                conversation, _said = _one(console, service, conversation, line)
        return
    _session(console, service, conversation)


def _chat_of(workflow: Workflow, person: str | None, no_model: bool) -> Chat:
    from advisor.chat import Chat

    model = workflow.chat_models() if workflow.settings.model is not None and not no_model else None
    return Chat(workflow, (person or "local").strip() or "local", model)


def _session(console: Console, service: Chat, conversation: Conversation) -> None:
    from advisor.terminal import text

    console.print(
        text("Ask about an incident; `help` shows how, an empty line ends. Nothing is changed from here.", "dim")
    )
    Stopped.message = "stopped; nothing was changed"
    while True:
        question = ask(console, "?")
        if not question or question.lower() in ("exit", "quit", "bye"):
            return
        try:
            conversation, _said = _one(console, service, conversation, question)
        except AdvisorError as error:
            console.print(text(str(error), "red"))
        console.print()


def _one(console: Console, service: Chat, conversation: Conversation, question: str) -> tuple[Conversation, Said]:
    from advisor.terminal.conversation import Listener, draw_said

    listener = Listener(console)
    conversation, said = service.ask(conversation, question, listener.hear)
    listener.end()
    console.print(draw_said(said, streamed=listener.streamed))
    return conversation, said
