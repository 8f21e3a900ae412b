"""What figures look at, against what the engine computes and against plain arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from inkwell.bundle import load_bundle
from inkwell.tokenizer import END_ID
from training.figures.attention import attends, attention_maps
from training.figures.dynamics import GROUPS, sort_units
from training.figures.embedding import group_of, neighbours
from training.figures.importance import importance
from training.figures.inside import read, token_vectors, write
from training.figures.samples import Sample, count, sample


@pytest.fixture(params=["char_bundle", "bpe_bundle", "gpt_bundle", "window_bundle"])
def bundle(request):
    return load_bundle(request.getfixturevalue(request.param))


def test_a_reading_costs_what_the_engine_says_its_tokens_cost(bundle):
    category = 1 if bundle.categories else 0
    options = {"category": bundle.categories[0]} if category else {}
    made = sample(bundle, 1, 5, 12, prompt="The", **options)[0]
    opening = bundle.tokenizer.encode(bundle.config.start) or [END_ID]
    ids = [*opening, *bundle.tokenizer.encode(made.prompt), *made.ids]
    reading = read(bundle, ids, category)
    assert (-reading.surprise[-len(made.ids) :]).tolist() == pytest.approx(made.logprobs, abs=1e-4)
    assert reading.hidden.shape == (len(ids), bundle.model.head.in_features)


def test_the_hidden_values_are_those_the_output_layer_reads(bundle):
    reading = read(bundle, [0, 3, 5, 2])
    head = bundle.model.head
    again = torch.nn.functional.linear(reading.hidden, head.weight, head.bias)
    assert torch.allclose(again, reading.logits, atol=1e-4)


def test_doubt_is_the_entropy_of_the_distribution(bundle):
    reading = read(bundle, [0, 3, 5])
    shares = reading.logits.double().softmax(-1).tolist()
    by_hand = [-sum(p * math.log(p) for p in row if p > 0) for row in shares]
    assert reading.entropy.tolist() == pytest.approx(by_hand, abs=1e-4)


def test_what_a_model_writes_depends_on_the_seed_alone(bundle):
    assert write(bundle, "", 20, 4) == write(bundle, "", 20, 4)
    assert write(bundle, "", 20, 4) != write(bundle, "", 20, 5)


def test_gradients_are_those_of_a_small_push(bundle):
    """Directional derivatives by finite differences, in double precision."""
    model = bundle.model.double()
    ids, place, column = [0, 3, 5, 2, 7], 3, 1
    condition = torch.tensor([0]) if bundle.categories else None
    found = importance(bundle, ids)
    pushed = torch.zeros(
        token_vectors(model)[0].shape[1] if model.embedding is not None else model.vocabulary
    )

    def output(_module, inputs, output):
        return output + (inputs[0] == ids[column])[..., None] * pushed

    def one_hot(_module, inputs):
        return (inputs[0] + (torch.arange(4) == column)[None, :, None] * pushed, *inputs[1:])

    if model.embedding is not None:
        hook = model.embedding.register_forward_hook(output)
    else:
        hook = model.layers[0].register_forward_pre_hook(one_hot)
    slopes = []
    for direction in range(len(pushed)):
        values = []
        for push in (1e-5, -1e-5):
            pushed.zero_()[direction] = push
            with torch.no_grad():
                logits = model(torch.tensor([ids[:-1]]), condition=condition).logits[0]
            values.append(float(logits[place, ids[place + 1]]))
        slopes.append((values[0] - values[1]) / 2e-5)
    hook.remove()
    assert float(found.gradient[place, column]) == pytest.approx(math.hypot(*slopes), rel=1e-3)


def test_no_prediction_rests_on_what_comes_after_it(bundle):
    found = importance(bundle, [0, 3, 5, 2, 7, 4])
    assert float(found.gradient.triu(1).abs().max()) == 0.0
    assert float(found.occlusion.triu(1).abs().max()) == 0.0
    assert (found.gradient.diagonal() > 0).all()
    assert float(found.occlusion.abs().sum()) > 0
    for total in found.totals():
        assert float(total.sum()) == pytest.approx(1.0)
    assert -1.0 <= found.agreement() <= 1.0


def test_a_blanked_token_changes_only_what_follows_it(bundle):
    """Read directly: with token j blanked, predictions before place j stay as they are to the last bit."""
    from training.figures.importance import _blanked

    ids = torch.tensor([[0, 3, 5, 2, 7]])
    condition = torch.tensor([0]) if bundle.categories else None
    with torch.no_grad():
        usual = bundle.model(ids, condition=condition).logits[0]
    average = token_vectors(bundle.model)[0].mean(0)
    changed = _blanked(bundle, ids, 2, average, condition)
    assert torch.allclose(changed[:2], usual[:2], atol=1e-5)
    assert not torch.allclose(changed[2:], usual[2:], atol=1e-5)


def test_attention_maps_are_the_weights_the_model_used(gpt_bundle):
    bundle = load_bundle(gpt_bundle)
    ids = list(range(1, 17))  # more than the model's window of 12
    maps = attention_maps(bundle, ids, 1)
    assert maps.shape == (2, 2, 16, 16)
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 16), atol=1e-5)
    assert float(maps.triu(1).abs().max()) == 0.0
    assert float(maps[..., 15, :4].abs().max()) == 0.0  # out of the window
    kept = {}
    block = bundle.model.blocks[0]
    hooks = [
        block.qkv.register_forward_hook(lambda m, i, o: kept.__setitem__("v", o)),
        block.proj.register_forward_pre_hook(lambda m, i: kept.__setitem__("y", i[0])),
    ]
    with torch.no_grad():
        bundle.model(torch.tensor([ids]), condition=torch.tensor([1]))
    for hook in hooks:
        hook.remove()
    values = kept["v"].view(16, 3, 2, 8)[:, 2].transpose(0, 1)  # (H, T, D)
    assert torch.allclose((maps[0] @ values).transpose(0, 1).reshape(16, 16), kept["y"][0], atol=1e-5)


def test_window_attention_is_shown_for_the_places_of_the_text(window_bundle):
    bundle = load_bundle(window_bundle)
    maps = attention_maps(bundle, [0, 3, 5], 1)
    assert maps.shape == (1, 2, 3, 3)
    assert bool((maps.sum(-1) <= 1.0 + 1e-5).all())
    assert attends(bundle)


def test_recurrent_models_have_no_attention(char_bundle):
    bundle = load_bundle(char_bundle)
    assert not attends(bundle)
    with pytest.raises(TypeError, match="has no attention"):
        attention_maps(bundle, [0, 1])


def test_every_unit_is_in_one_group():
    steps = torch.linspace(-1, 1, 9)
    hidden = torch.stack([steps * 0.05, steps.abs() + 0.2, -steps.abs() - 0.2, steps * 2, steps * 0.4], dim=1)
    units = sort_units(hidden)
    assert units.groups == ("inactive", "all +", "all −", "very active", "mixed")
    assert units.counts() == dict.fromkeys(GROUPS, 1)
    assert sum(units.counts().values()) == 5


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("e", "vowels"),
        ("é", "vowels"),
        ("k", "consonants"),
        ("K", "capitals"),
        ("7", "digits"),
        (" harbour", "words"),
        ("Captain", "words"),
        ("ing", "parts of words"),
        (".\n", "punctuation"),
        ("", "other"),
        ("a1", "other"),
    ],
)
def test_tokens_are_grouped_by_what_they_are(text, group):
    assert group_of(text) == group


def test_neighbours_are_those_with_the_largest_cosine(bundle):
    vectors, _ = token_vectors(bundle.model)
    found = neighbours(bundle, 3, 4)
    cosines = torch.nn.functional.cosine_similarity(vectors, vectors[3][None])
    expected = sorted((-float(value), token) for token, value in enumerate(cosines) if token != 3)[:4]
    assert [token for token, _ in found] == [token for _, token in expected]
    assert [value for _, value in found] == pytest.approx([-value for value, _ in expected], abs=1e-5)


def test_figures_of_a_collection_are_counted_as_by_hand(char_bundle):
    bundle = load_bundle(char_bundle)
    texts = [
        Sample("a", "bcab", (2, 3, 1, 2), (-1.0, -2.0, -3.0, -2.0)),
        Sample("a", "bcab", (2, 3, 1, 2), (-1.0, -2.0, -3.0, -2.0)),
        Sample("", "ababab", (1, 2, 1, 2, 1, 2), (-2.0,) * 6),
    ]
    found = count(bundle, texts)
    assert found.nats == pytest.approx(28 / 14)
    assert found.distinct == pytest.approx(2 / 3)
    assert found.distinct_3 == pytest.approx(4 / 8)
    assert found.repeated == pytest.approx(1 / 5)
    assert math.isnan(found.copied)
    assert math.isnan(found.exact)


def test_copies_are_found_where_a_bundle_has_its_training_text(char_bundle):
    from inkwell.novelty import NoveltyIndex

    bundle = load_bundle(char_bundle)
    bundle.novelty = NoveltyIndex.build(["The lantern burned since the first winter."])
    copy = Sample("The ", "lantern burned since the first winter.", (1, 2), (-1.0, -1.0))
    found = count(bundle, [copy, Sample("", "xyz", (3,), (-1.0,))])
    assert found.exact == 0.5
    assert found.copied == pytest.approx(0.5)
