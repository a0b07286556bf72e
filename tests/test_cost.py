"""Cost profiles, prices and reports."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from doubleweave.errors import CostProfileError
from doubleweave.models.cost import (
    PROVIDER_PRICES,
    CostProfile,
    CostReport,
    PriceSnap,
    compute_cost_report,
    lookup_price,
)

REQUIRED = PydanticUndefined

PRICES = [
    ("openai", "gpt-4o", 2.50, 10.00),
    ("openai", "gpt-4o-mini", 0.15, 0.60),
    ("anthropic", "claude-opus-4-7", 15.00, 75.00),
    ("anthropic", "claude-sonnet-4-6", 3.00, 15.00),
    ("anthropic", "claude-haiku-4-5", 0.80, 4.00),
    ("google", "gemini-2.5-pro", 1.25, 10.00),
    ("google", "gemini-2.5-flash", 0.30, 2.50),
    ("aws-bedrock", "claude-opus-4-7", 15.00, 75.00),
]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (PriceSnap, {"input_per_mtok": REQUIRED, "output_per_mtok": REQUIRED, "as_of": REQUIRED}),
        (
            CostProfile,
            {
                "avg_llm_latency_ms": 300.0,
                "avg_tokens_per_call": 750.0,
                "cost_per_token_usd": 0.00004,
                "provider": None,
                "model": None,
                "price_as_of": None,
            },
        ),
        (
            CostReport,
            dict.fromkeys(
                (
                    "steps_executed",
                    "llm_calls_avoided",
                    "latency_saved_ms",
                    "cost_saved_usd",
                    "actual_execution_ms",
                    "profile",
                ),
                REQUIRED,
            ),
        ),
    ],
)
def test_the_fields_and_defaults_are_exactly_these(model: type[BaseModel], fields: dict[str, Any]) -> None:
    assert {name: field.default for name, field in model.model_fields.items()} == fields
    assert list(model.model_fields) == list(fields)


@pytest.mark.parametrize(
    ("instance", "field"),
    [
        (PriceSnap(input_per_mtok=1, output_per_mtok=2, as_of="2026-05-01"), "as_of"),
        (CostProfile(), "model"),
        (compute_cost_report(steps_executed=1, actual_execution_ms=1.0), "steps_executed"),
    ],
)
def test_the_models_are_frozen_and_round_trip_through_json(instance: BaseModel, field: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(instance, field, "x")
    assert type(instance).model_validate_json(instance.model_dump_json()) == instance


@pytest.mark.parametrize("field", ["avg_llm_latency_ms", "avg_tokens_per_call", "cost_per_token_usd"])
def test_a_profile_rejects_negative_numbers_and_takes_zero(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        CostProfile(**{field: -0.1})
    assert getattr(CostProfile(**{field: 0}), field) == 0.0


@pytest.mark.parametrize("field", ["input_per_mtok", "output_per_mtok"])
def test_a_price_rejects_negative_numbers_and_takes_zero(field: str) -> None:
    values: dict[str, Any] = {"input_per_mtok": 1, "output_per_mtok": 1, "as_of": "2026-05-01"}
    with pytest.raises(ValidationError, match=field):
        PriceSnap(**values | {field: -0.1})
    assert getattr(PriceSnap(**values | {field: 0}), field) == 0.0


@pytest.mark.parametrize(("provider", "model", "price_in", "price_out"), PRICES)
def test_each_known_price(provider: str, model: str, price_in: float, price_out: float) -> None:
    expected = PriceSnap(input_per_mtok=price_in, output_per_mtok=price_out, as_of="2026-05-01")
    assert PROVIDER_PRICES[provider, model] == expected
    assert lookup_price(provider, model) == expected


def test_the_price_table_is_read_only() -> None:
    with pytest.raises(TypeError):
        PROVIDER_PRICES["x", "y"] = lookup_price("openai", "gpt-4o")  # type: ignore[index]
    assert ("x", "y") not in PROVIDER_PRICES


@pytest.mark.parametrize(("provider", "model"), [("openai", "nope"), ("nope", "gpt-4o"), ("anthropic", "gpt-4o")])
def test_an_unknown_price_is_an_error_that_lists_the_known_pairs(provider: str, model: str) -> None:
    with pytest.raises(CostProfileError) as caught:
        lookup_price(provider, model)
    error = caught.value
    assert (error.provider, error.model, error.code) == (provider, model, "CW-E033")
    for known_provider, known_model, _, _ in PRICES:
        assert f"{known_provider}:{known_model}" in error.detail
    assert str(error) == f"No maintained price for provider '{provider}' model '{model}': {error.detail}."


@pytest.mark.parametrize(
    ("fraction", "per_token"),
    [(0.0, 2.0 / 1_000_000), (0.25, 4.0 / 1_000_000), (0.5, 6.0 / 1_000_000), (1.0, 10.0 / 1_000_000)],
)
def test_the_blended_price_weighs_input_and_output(fraction: float, per_token: float) -> None:
    price = PriceSnap(input_per_mtok=2.0, output_per_mtok=10.0, as_of="2026-05-01")
    assert price.blended_cost_per_token_usd(output_fraction=fraction) == per_token


def test_the_blended_price_halves_by_default() -> None:
    price = PriceSnap(input_per_mtok=2.0, output_per_mtok=10.0, as_of="2026-05-01")
    assert price.blended_cost_per_token_usd() == 6.0 / 1_000_000


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_an_output_fraction_outside_0_and_1_is_rejected(fraction: float) -> None:
    with pytest.raises(ValueError, match="output_fraction"):
        lookup_price("openai", "gpt-4o").blended_cost_per_token_usd(output_fraction=fraction)
    with pytest.raises(ValueError, match="output_fraction"):
        CostProfile.from_provider("openai", "gpt-4o", output_fraction=fraction)


def test_a_profile_from_a_provider_has_its_price_and_the_defaults() -> None:
    assert CostProfile.from_provider("openai", "gpt-4o") == CostProfile(
        avg_llm_latency_ms=300.0,
        avg_tokens_per_call=750.0,
        cost_per_token_usd=6.25 / 1_000_000,
        provider="openai",
        model="gpt-4o",
        price_as_of="2026-05-01",
    )


def test_a_profile_from_a_provider_takes_other_averages() -> None:
    profile = CostProfile.from_provider(
        "openai", "gpt-4o", avg_tokens_per_call=10.0, output_fraction=1.0, avg_llm_latency_ms=20.0
    )
    assert (profile.avg_tokens_per_call, profile.avg_llm_latency_ms) == (10.0, 20.0)
    assert profile.cost_per_token_usd == 10.0 / 1_000_000


def test_a_profile_from_an_unknown_pair_is_an_error() -> None:
    with pytest.raises(CostProfileError):
        CostProfile.from_provider("openai", "nope")


@pytest.mark.parametrize(("steps", "avoided"), [(0, 0), (1, 0), (2, 1), (7, 6)])
def test_every_step_after_the_first_avoids_a_call(steps: int, avoided: int) -> None:
    profile = CostProfile(avg_llm_latency_ms=7.5, avg_tokens_per_call=3.0, cost_per_token_usd=0.125)
    report = compute_cost_report(steps_executed=steps, actual_execution_ms=1.23456789, profile=profile)
    assert report == CostReport(
        steps_executed=steps,
        llm_calls_avoided=avoided,
        latency_saved_ms=avoided * 7.5,
        cost_saved_usd=avoided * 3.0 * 0.125,
        actual_execution_ms=1.23456789,
        profile=profile,
    )


def test_the_numbers_are_not_rounded() -> None:
    report = compute_cost_report(
        steps_executed=4,
        actual_execution_ms=1 / 3,
        profile=CostProfile(avg_llm_latency_ms=1 / 7, avg_tokens_per_call=1 / 3, cost_per_token_usd=1 / 11),
    )
    assert report.actual_execution_ms == 1 / 3
    assert report.latency_saved_ms == 3 * (1 / 7)
    assert report.cost_saved_usd == 3 * (1 / 3) * (1 / 11)


def test_without_profile_and_provider_the_default_profile_is_used() -> None:
    assert compute_cost_report(steps_executed=1, actual_execution_ms=0.0).profile == CostProfile()


def test_a_provider_and_a_model_give_the_profile() -> None:
    report = compute_cost_report(steps_executed=1, actual_execution_ms=0.0, provider="openai", model="gpt-4o")
    assert report.profile == CostProfile.from_provider("openai", "gpt-4o")


@pytest.mark.parametrize(
    "pair", [{"provider": "openai"}, {"model": "gpt-4o"}, {"provider": "openai", "model": "unknown"}]
)
def test_a_given_profile_wins_over_provider_and_model(pair: dict[str, str]) -> None:
    profile = CostProfile(avg_llm_latency_ms=1.0)
    report = compute_cost_report(steps_executed=1, actual_execution_ms=0.0, profile=profile, **pair)
    assert report.profile == profile


@pytest.mark.parametrize("pair", [{"provider": "openai"}, {"model": "gpt-4o"}])
def test_provider_or_model_alone_is_rejected(pair: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="together or not at all"):
        compute_cost_report(steps_executed=1, actual_execution_ms=0.0, **pair)  # type: ignore[arg-type]


def test_a_report_becomes_plain_data() -> None:
    report = compute_cost_report(steps_executed=3, actual_execution_ms=4.5)
    assert report.to_dict() == {
        "steps_executed": 3,
        "llm_calls_avoided": 2,
        "latency_saved_ms": 600.0,
        "cost_saved_usd": 2 * 750.0 * 0.00004,
        "actual_execution_ms": 4.5,
        "profile": CostProfile().model_dump(),
    }


def test_the_text_of_a_report_says_estimate_and_names_the_price() -> None:
    text = str(compute_cost_report(steps_executed=3, actual_execution_ms=4.5, provider="openai", model="gpt-4o"))
    assert "estimate" in text
    [line] = [line for line in text.splitlines() if "Priced against:" in line]
    assert "openai/gpt-4o" in line
    assert "2026-05-01" in line


@pytest.mark.parametrize("missing", ["provider", "model", "price_as_of"])
def test_the_text_of_a_report_names_no_price_when_part_of_it_is_unknown(missing: str) -> None:
    profile = CostProfile.from_provider("openai", "gpt-4o").model_copy(update={missing: None})
    text = str(compute_cost_report(steps_executed=3, actual_execution_ms=4.5, profile=profile))
    assert "estimate" in text
    assert "Priced against:" not in text
