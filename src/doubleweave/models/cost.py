"""What running a flow without a language model between its steps saves: an estimate, and the prices behind it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from doubleweave.errors import CostProfileError


class PriceSnap(BaseModel):
    """A model's list price in USD per million tokens, as it stood on the day ``as_of`` (``YYYY-MM-DD``)."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    input_per_mtok: float = Field(ge=0)
    output_per_mtok: float = Field(ge=0)
    as_of: str

    def blended_cost_per_token_usd(self, *, output_fraction: float = 0.5) -> float:
        """Return the USD price of one token when ``output_fraction`` of the tokens are output.

        Raises:
            ValueError: ``output_fraction`` is not within 0 and 1.
        """
        if not 0 <= output_fraction <= 1:
            raise ValueError(f"output_fraction must be within 0 and 1, not {output_fraction}")
        return (self.input_per_mtok * (1 - output_fraction) + self.output_per_mtok * output_fraction) / 1_000_000


def _snap(input_per_mtok: float, output_per_mtok: float) -> PriceSnap:
    return PriceSnap(input_per_mtok=input_per_mtok, output_per_mtok=output_per_mtok, as_of="2026-05-01")


PROVIDER_PRICES: Mapping[tuple[str, str], PriceSnap] = MappingProxyType(
    {
        ("openai", "gpt-4o"): _snap(2.50, 10.00),
        ("openai", "gpt-4o-mini"): _snap(0.15, 0.60),
        ("anthropic", "claude-opus-4-7"): _snap(15.00, 75.00),
        ("anthropic", "claude-sonnet-4-6"): _snap(3.00, 15.00),
        ("anthropic", "claude-haiku-4-5"): _snap(0.80, 4.00),
        ("google", "gemini-2.5-pro"): _snap(1.25, 10.00),
        ("google", "gemini-2.5-flash"): _snap(0.30, 2.50),
        ("aws-bedrock", "claude-opus-4-7"): _snap(15.00, 75.00),
    }
)
"""Known prices by (provider, model); read-only."""


def lookup_price(provider: str, model: str) -> PriceSnap:
    """Return the known price of a provider's model.

    Raises:
        CostProfileError: there is none; the message lists the known pairs.
    """
    price = PROVIDER_PRICES.get((provider, model))
    if price is None:
        known = ", ".join(f"{p}:{m}" for p, m in sorted(PROVIDER_PRICES))
        raise CostProfileError(provider, model, f"known pairs are {known}")
    return price


class CostProfile(BaseModel):
    """What one avoided language-model call is taken to cost: milliseconds, tokens, and USD for each token."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    avg_llm_latency_ms: float = Field(default=300.0, ge=0)
    avg_tokens_per_call: float = Field(default=750.0, ge=0)
    cost_per_token_usd: float = Field(default=0.00004, ge=0)
    provider: str | None = None
    model: str | None = None
    price_as_of: str | None = None

    @classmethod
    def from_provider(
        cls,
        provider: str,
        model: str,
        *,
        avg_tokens_per_call: float = 750.0,
        output_fraction: float = 0.5,
        avg_llm_latency_ms: float = 300.0,
    ) -> "CostProfile":
        """Return a profile priced by the known price of a provider's model.

        Raises:
            CostProfileError: the price is not known.
            ValueError: ``output_fraction`` is not within 0 and 1.
        """
        price = lookup_price(provider, model)
        return cls(
            avg_llm_latency_ms=avg_llm_latency_ms,
            avg_tokens_per_call=avg_tokens_per_call,
            cost_per_token_usd=price.blended_cost_per_token_usd(output_fraction=output_fraction),
            provider=provider,
            model=model,
            price_as_of=price.as_of,
        )


class CostReport(BaseModel):
    """The estimate for one run, unrounded: calls avoided, milliseconds and USD saved, and the profile it rests on."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    steps_executed: int
    llm_calls_avoided: int
    latency_saved_ms: float
    cost_saved_usd: float
    actual_execution_ms: float
    profile: CostProfile

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return self.model_dump()

    def __str__(self) -> str:
        lines = [
            "Cost report (estimate)",
            f"  Steps executed:    {self.steps_executed}",
            f"  LLM calls avoided: {self.llm_calls_avoided}",
            f"  Latency saved:     {self.latency_saved_ms:.1f} ms",
            f"  Cost saved:        ${self.cost_saved_usd:.6f}",
            f"  Actual execution:  {self.actual_execution_ms:.1f} ms",
        ]
        profile = self.profile
        if profile.provider and profile.model and profile.price_as_of:
            lines.append(f"  Priced against:    {profile.provider}/{profile.model} as of {profile.price_as_of}")
        return "\n".join(lines)


def compute_cost_report(
    *,
    steps_executed: int,
    actual_execution_ms: float,
    profile: CostProfile | None = None,
    provider: str | None = None,
    model: str | None = None,
) -> CostReport:
    """Return the estimate for a run of ``steps_executed`` steps: every step after the first avoided one call.

    A given ``profile`` wins over ``provider`` and ``model``; without any of them the default profile is used.

    Raises:
        ValueError: ``provider`` or ``model`` alone, without a profile.
        CostProfileError: the price of the pair is not known.
    """
    if profile is None:
        profile = _profile_for(provider, model)
    avoided = max(0, steps_executed - 1)
    return CostReport(
        steps_executed=steps_executed,
        llm_calls_avoided=avoided,
        latency_saved_ms=avoided * profile.avg_llm_latency_ms,
        cost_saved_usd=avoided * profile.avg_tokens_per_call * profile.cost_per_token_usd,
        actual_execution_ms=actual_execution_ms,
        profile=profile,
    )


def _profile_for(provider: str | None, model: str | None) -> CostProfile:
    if provider is not None and model is not None:
        return CostProfile.from_provider(provider, model)
    if provider is None and model is None:
        return CostProfile()
    raise ValueError("provider and model must be given together or not at all")
