"""Lets a language model explain what the engine found, checks every claim, and says which diagnosis stands.

A model that is absent, slow, wrong or hostile costs its deadline and a line in the report: the engine's diagnosis and its
proposals are whole without it. No rule stands here; the judgement is in `diagnosis.grounding` and `diagnosis.opinion`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advisor import bundle as bundles
from advisor.diagnosis import Assessment
from advisor.diagnosis.dossier import Dossier, write_dossier, write_repair
from advisor.diagnosis.grounding import Facts, Judgement, gather_facts, judge_answer, parse_answer
from advisor.diagnosis.opinion import Opinion, no_opinion, settle_opinion
from advisor.errors import ModelAnswerInvalid, ModelError, ModelRefused
from advisor.evidence import ChangeAnswer, Gathered, SettledCoverage
from advisor.gathering import Progress
from advisor.incident import Incident
from advisor.model_port import LanguageModel, ModelReply, ModelUsage, StopReason
from advisor.playbook import Playbook
from advisor.redacted import RedactedModel
from advisor.settings import read_secret
from advisor.workflow.parts import Parts

if TYPE_CHECKING:
    from advisor.adapters.language_model import ChatModels

REPAIRS_MAX = 2


@dataclass(frozen=True)
class Explained:
    """What became of an assessment once a model was heard."""

    assessment: Assessment
    opinion: Opinion | None
    usage: ModelUsage


class Explaining(Parts):
    """Ask the model that the settings name, if they name one.

    Attributes:
        live_model: Whether a replay asks the model anew instead of reading its answer from the tape.
        model_attempt: Counts repeated runs of the same question, so that each is recorded for itself.
    """

    live_model = False
    model_attempt = 0

    def explain(
        self,
        incident: Incident,
        coverage: SettledCoverage,
        gathered: Gathered,
        assessment: Assessment,
        playbook: Playbook | None,
        progress: Progress | None = None,
    ) -> Explained:
        """Return the assessment with the model's explanation where it stands, and its opinion beside it.

        Args:
            incident: What is asked about.
            coverage: How each source ended.
            gathered: What the sources gave; a cause that the model adds is looked for in it.
            assessment: The engine's.
            playbook: Of the symptom.
            progress: Called as the model is asked and has answered.
        """
        model = self.language_model()
        if model is None or self.settings.model is None:
            return Explained(assessment, None, ModelUsage())
        if progress:
            progress("model", "reading")
        most = self.settings.model.input_tokens_max
        dossier = write_dossier(incident, coverage, assessment, playbook, most, self.model_attempt)
        note = ""
        conversant = self._conversant() if self.settings.model.investigates else None
        if conversant is not None:
            from advisor.workflow.following_up import follow_up

            metrics = self.sources(self.settings.service(incident.service)).metrics
            told = dossier.request.messages[-1].text
            assessment, note = follow_up(conversant, assessment, gathered, metrics, told)
            dossier = write_dossier(incident, coverage, assessment, playbook, most, self.model_attempt)
        facts = gather_facts(assessment, frozenset(self.settings.services), incident.question)
        changes = tuple(filter(None, (gathered.changes, *(n.changes for n in gathered.neighbours))))
        explained = _consult(model, dossier, assessment, facts, changes, playbook)
        if note and explained.opinion is not None:
            noted = "; ".join(filter(None, (explained.opinion.note, note)))
            explained = Explained(
                explained.assessment, explained.opinion.model_copy(update={"note": noted}), explained.usage
            )
        if progress:
            progress("model", "done")
        return explained

    def _conversant(self) -> bundles.RecordedConversant | None:
        """Return the model as one that can ask questions, recorded or played; None where a replay has no such exchange."""
        if self.replay and not self.live_model:
            source = bundles.RecordedConversant.SOURCE
            return bundles.RecordedConversant(self.tape, None) if self.tape.has(source) else None
        return bundles.RecordedConversant(self.tape, self.chat_models())

    def language_model(self) -> LanguageModel | None:
        """Return the configured model, recorded onto the tape or played from it; None where there is none.

        Raises:
            SettingsInvalid: A key that the settings name cannot be read.
        """
        configured = self.settings.model
        played = self.replay and not self.live_model
        if configured is None or (played and not self.tape.has("model")):
            return None
        if played:
            return bundles.RecordedModel(self.tape, None, configured.name)
        return bundles.RecordedModel(self.tape, RedactedModel(self.chat_models()), configured.name)

    def chat_models(self) -> ChatModels:
        """Return the model and its fallbacks, unrecorded."""
        from advisor.adapters.language_model import ChatModels, ModelSettings
        from advisor.adapters.language_model.budget import Limits, Meter, Price

        m = self.settings.model
        if m is None:
            raise ModelRefused("no model is configured; set model in advisor.yaml")
        models: list[ModelSettings] = []
        for name in (m.name, *m.fallbacks):
            provider = name.partition(":")[0]
            same = provider == m.name.partition(":")[0]
            key, key_from = self._model_key(provider, same)
            models.append(
                ModelSettings(
                    name=name,
                    base_url=m.base_url if same else None,
                    api_key=key,
                    key_from=key_from,
                    ca_file=str(self.settings.path(m.ca_file)) if m.ca_file else None,
                    answer=m.answer,
                    temperature=m.temperature,
                    seed=m.seed,
                    max_output_tokens=m.max_output_tokens,
                    traces=m.traces,
                )
            )
        b = m.budget
        meter = Meter(
            Limits(b.calls, b.input_tokens, b.output_tokens, b.seconds, b.usd),
            {name: Price(price.input, price.output) for name, price in m.prices.items()},
        )
        return ChatModels(tuple(models), meter, m.deadline_seconds, m.retries)

    def _model_key(self, provider: str, same: bool) -> tuple[str | None, str]:
        """Return a provider's key and where it came from; a local server needs none."""
        m = self.settings.model
        if m is not None and same and (m.api_key_env or m.api_key_file):
            path = self.settings.path(m.api_key_file) if m.api_key_file else None
            return read_secret(m.api_key_env, path, "model.api_key"), m.api_key_env or str(path)
        usual = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}.get(provider, "")
        return os.environ.get(usual) or None, usual


def _consult(
    model: LanguageModel,
    dossier: Dossier,
    assessment: Assessment,
    facts: Facts,
    changes: tuple[ChangeAnswer, ...],
    playbook: Playbook | None,
) -> Explained:
    """Ask, judge, ask to repair exactly the faults, at most twice; whatever happens, the assessment comes back whole."""
    request, rounds, usage = dossier.request, 0, ModelUsage()
    best: tuple[Judgement, str] | None = None
    note = ""
    while True:
        try:
            reply = model.ask(request)
        except ModelError as error:
            note = str(error)
            break
        usage = usage.plus(reply.usage)
        judgement, faults = _judged(reply, assessment, facts, changes, playbook)
        if judgement is not None and (best is None or len(judgement.faults) < len(best[0].faults)):
            best = judgement, reply.model
        note = faults[0] if faults else ""
        if not faults or rounds == REPAIRS_MAX or reply.stop is StopReason.REFUSED:
            break
        rounds += 1
        request = write_repair(dossier, reply.text, faults)
    if best is None:
        opinion = no_opinion(model.name, note or "it gave no answer", rounds)
        return Explained(assessment, opinion, usage)
    settled, opinion = settle_opinion(assessment, best[0], best[1], rounds)
    return Explained(settled, opinion, usage)


def _judged(
    reply: ModelReply,
    assessment: Assessment,
    facts: Facts,
    changes: tuple[ChangeAnswer, ...],
    playbook: Playbook | None,
) -> tuple[Judgement | None, tuple[str, ...]]:
    if reply.stop is StopReason.REFUSED:
        return None, ("it declined to answer",)
    try:
        answer = parse_answer(reply.text)
    except ModelAnswerInvalid as error:
        cut = " (it was cut at the limit of tokens)" if reply.stop is StopReason.LENGTH else ""
        return None, (f"{error}{cut}",)
    judgement = judge_answer(answer, assessment, facts, changes, playbook)
    return judgement, judgement.faults
