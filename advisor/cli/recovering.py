"""The command that carries on what was left in flight: recover."""

from __future__ import annotations

from advisor.cli.base import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    Stopped,
    app,
    command,
    open_workflow,
    say,
    write_json,
)

UNCERTAIN = 5


@app.command()
@command
def recover(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> int:
    """Carry on what a crash or a lost remote left in the middle; the commands that change something begin with it."""
    from advisor.workflow import Ending

    workflow = open_workflow(config)
    Stopped.message = "stopped; what was left in flight is still on record, `advisor recover` can be repeated"
    found = workflow.recover(offers=True)
    if as_json:
        write_json([{"proposal": r.proposal_id, "ending": r.ending.value, "told": r.told} for r in found])
    for item in found:
        say(item.told, 0)
    if not found and not as_json:
        say("nothing is in flight", 0)
    endings = {item.ending for item in found}
    return UNCERTAIN if Ending.UNCERTAIN in endings else 1 if Ending.LEFT in endings else 0
