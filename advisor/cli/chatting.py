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

    from advisor.adapters.conversations import ConversationFiles
    from advisor.chat import Chat, Conversation, Said
    from advisor.workflow import Workflow


@app.command()
@command
def chat(
    question: Annotated[
        str | None, typer.Argument(help="One question; without it a session begins.", metavar="QUESTION")
    ] = None,
    person: AsOption = None,
    listing: Annotated[bool, typer.Option("--list", help="List your conversations.")] = False,
    resume: Annotated[
        str | None, typer.Option("--continue", help="Go on with one of them.", metavar="ID", show_default=False)
    ] = None,
    delete: Annotated[
        str | None, typer.Option("--delete", help="Delete one of them.", metavar="ID", show_default=False)
    ] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Answer by rules only.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Answer questions about incidents; nothing is approved, applied or rolled back here."""
    workflow = open_workflow(config)
    kept = _kept(workflow, person)
    if listing:
        return _list(kept, as_json)
    if delete is not None:
        sys.stdout.write(f"{kept.delete(delete)} deleted\n")
        return
    service = _chat_of(workflow, person, no_model)
    conversation = kept.load(resume, _read) if resume is not None else service.begin()
    if question is not None:
        console = console_for(to_stderr=as_json)
        conversation, said = _one(console, service, conversation, question)
        kept.keep(conversation)
        if as_json:
            write_json(
                {
                    "schema": "advisor.chat/v1",
                    "conversation": conversation.id,
                    "question": question,
                    **said.model_dump(mode="json"),
                }
            )
        return
    if as_json:
        raise SettingsInvalid("chat --json: give the question as an argument")
    console = console_for()
    if not can_ask(console):
        for line in sys.stdin:
            if line.strip():
                conversation, _said = _one(console, service, conversation, line)
                kept.keep(conversation)
        return
    _session(console, service, conversation, kept)


def _chat_of(workflow: Workflow, person: str | None, no_model: bool) -> Chat:
    from advisor.chat import Chat

    model = workflow.chat_models() if workflow.settings.model is not None and not no_model else None
    return Chat(workflow, (person or "local").strip() or "local", model)


def _kept(workflow: Workflow, person: str | None) -> ConversationFiles:
    from advisor.adapters.conversations import ConversationFiles

    return ConversationFiles(workflow.state_directory / "conversations", (person or "local").strip() or "local")


def _read(data: bytes) -> Conversation:
    from advisor.chat import Conversation

    return Conversation.model_validate_json(data)


def _list(kept: ConversationFiles, as_json: bool) -> None:
    found = [kept.load(one, _read) for one in kept.ids()]
    if as_json:
        return write_json(
            [{"id": c.id, "updated_at": c.model_dump(mode="json")["updated_at"], "title": c.title} for c in found]
        )
    from advisor.terminal import text
    from advisor.values import format_instant

    console = console_for()
    for one in found:
        console.print(text(f"{one.id}  {format_instant(one.updated_at)}  {one.title}"))
    if not found:
        console.print(text("no conversation of yours is kept"))


def _session(console: Console, service: Chat, conversation: Conversation, kept: ConversationFiles) -> None:
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
            kept.keep(conversation)
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
