import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import CausalLM
from t5x_style.data.objectives.causal_lm import span_weights
from t5x_style.errors import UserError
from tests.data.objectives.make import check_counts, fields, ids_of, pieces

ENDED = ids_of(append_eos=frozenset({"targets"}))
RESPONSES = CausalLM(response_spans="responses")


def of(objective, length, tokens, spans=None, ids=ENDED):
    features = {"targets": [tokens]} if spans is None else {"targets": [tokens], "responses": [spans]}
    return pieces(objective, length, ids=ids, **features)


def test_documents_are_cut_into_pieces_and_nothing_is_dropped():
    found = of(CausalLM(), 4, [5, 6, 7, 8, 9])
    assert [fields(piece) for piece in found] == [
        {"decoder_target_tokens": [5, 6, 7, 8]},
        {"decoder_target_tokens": [9, 1]},
    ]
    assert [(piece.raw, piece.cut) for piece in found] == [(4, 0), (1, 0)]
    assert [len(piece.fields["decoder_target_tokens"]) for piece in of(CausalLM(), 4, [5, 6, 7])] == [4]
    # exactly full: the EOS has a piece of its own, of no token of the cache
    found = of(CausalLM(), 4, [5, 6, 7, 8])
    assert fields(found[1]) == {"decoder_target_tokens": [1]}
    assert found[1].raw == 0
    assert [fields(piece) for piece in of(CausalLM(), 4, [5, 6], ids=ids_of())] == [{"decoder_target_tokens": [5, 6]}]
    assert of(CausalLM(), 4, [], ids=ids_of()) == []
    assert not CausalLM().may_cut({"targets": None}, {"decoder": 4})


def test_the_loss_of_responses():
    found = of(RESPONSES, 4, [5, 6, 7, 8, 9], [1, 2, 4, 5])
    assert [fields(piece) for piece in found] == [
        {"decoder_target_tokens": [5, 6, 7, 8], "decoder_loss_weights": [0, 1, 0, 0]},
        {"decoder_target_tokens": [9, 1], "decoder_loss_weights": [1, 1]},
    ]
    # a span over the cut counts on both sides of it; one that ends before the document does not teach its EOS
    found = of(RESPONSES, 4, [5, 6, 7, 8, 9, 10], [3, 5])
    assert [fields(piece)["decoder_loss_weights"] for piece in found] == [[0, 0, 0, 1], [1, 0, 0]]
    assert RESPONSES.may_cut({"targets": 3, "responses": 2}, {"decoder": 4})


def test_pieces_without_a_response_are_cut():
    found = of(RESPONSES, 4, [5, 6, 7, 8, 9, 10, 11, 12, 13], [4, 5])
    assert [(piece.raw, piece.cut) for piece in found] == [(0, 4), (4, 0), (0, 1)]
    assert not found[0].fields
    assert not found[2].fields  # [13, EOS]: one token of the cache
    found = of(RESPONSES, 4, [5, 6, 7], [])
    assert [(piece.raw, piece.cut, len(piece.fields)) for piece in found] == [(0, 3, 0)]
    # only the EOS is left: it is the response's end
    found = of(RESPONSES, 4, [5, 6, 7, 8], [2, 4])
    assert [fields(piece).get("decoder_loss_weights") for piece in found] == [[0, 0, 1, 1], [1]]


def test_a_text_begins_as_the_tokenizer_begins_it():
    with_bos = ids_of(begin=3, append_eos=frozenset({"targets"}))
    found = of(CausalLM(begin="tokenizer"), 4, [5, 6, 7, 8, 9], ids=with_bos)
    assert [fields(piece) for piece in found] == [
        {"decoder_target_tokens": [5, 6, 7, 8], "decoder_input_tokens": [3, 5, 6, 7]},
        {"decoder_target_tokens": [9, 1], "decoder_input_tokens": [3, 9]},
    ]
    # nothing in front: the first token is an input only, and pieces go on from the token before
    found = of(CausalLM(begin="tokenizer"), 3, [5, 6, 7, 8, 9])
    assert [fields(piece) for piece in found] == [
        {"decoder_target_tokens": [6, 7, 8], "decoder_input_tokens": [5, 6, 7]},
        {"decoder_target_tokens": [9, 1], "decoder_input_tokens": [8, 9]},
    ]
    assert [(piece.raw, piece.cut) for piece in found] == [(4, 0), (1, 0)]
    found = of(CausalLM(begin="tokenizer"), 3, [5], ids=ids_of())
    assert [(piece.fields, piece.raw, piece.cut) for piece in found] == [({}, 0, 1)]  # nothing to predict


def test_responses_of_a_text_without_a_begin_token():
    objective = CausalLM(response_spans="responses", begin="tokenizer")
    found = of(objective, 4, [5, 6, 7, 8], [2, 4])
    assert [fields(piece) for piece in found] == [
        {
            "decoder_target_tokens": [6, 7, 8, 1],
            "decoder_input_tokens": [5, 6, 7, 8],
            "decoder_loss_weights": [0, 1, 1, 1],
        }
    ]
    assert of(objective, 4, [5], [0, 1])[0].fields["decoder_loss_weights"].tolist() == [1]  # the EOS
    assert of(objective, 4, [5], [0, 1], ids=ids_of())[0].cut == 1


@st.composite
def conversations(draw):
    length = draw(st.integers(0, 40))
    borders = sorted(draw(st.lists(st.integers(0, length), max_size=8)))
    return length, borders[: len(borders) // 2 * 2]


@settings(max_examples=300, deadline=None)
@given(
    conversations(),
    st.integers(2, 20),
    st.booleans(),
    st.sampled_from([None, "responses"]),
    st.sampled_from(["start_id", "tokenizer"]),
    st.sampled_from([None, 3]),
)
def test_counts_add_up_and_every_target_stands_once(conversation, length, eos, spans, begin, begin_id):
    size, borders = conversation
    tokens = list(range(10, 10 + size))
    ids = ids_of(begin=begin_id, append_eos=frozenset({"targets"} if eos else ()))
    objective = CausalLM(response_spans=spans, begin=begin)
    found = of(objective, length, tokens, borders if spans else None, ids)
    check_counts(objective, found, size, length)
    whole = [piece for piece in found if piece.fields]
    text = tokens + [1] * eos
    given_first = begin == "tokenizer" and begin_id is None
    targets = [token for piece in whole for token in piece.fields["decoder_target_tokens"].tolist()]
    if not spans:
        assert targets == text[given_first:]
    weights = span_weights(np.array(borders), size, len(text)) if spans else np.ones(len(text))
    learned = [
        token
        for piece in whole
        for token, weight in zip(
            piece.fields["decoder_target_tokens"], piece.fields.get("decoder_loss_weights", np.ones(length))
        )
        if weight
    ]
    assert learned == [token for token, weight in zip(text[given_first:], weights[given_first:]) if weight]
    for piece in whole:
        if "decoder_input_tokens" in piece.fields:
            inputs, shifted = piece.fields["decoder_input_tokens"], piece.fields["decoder_target_tokens"]
            assert inputs[1:].tolist() == shifted[:-1].tolist()
            before = text.index(shifted[0]) - 1
            assert inputs[0] == (text[before] if given_first else begin_id)


def test_bad_options():
    with pytest.raises(UserError, match="begin is 'bos'"):
        CausalLM(begin="bos")
    with pytest.raises(UserError, match="leave start_id unset"):
        CausalLM(begin="tokenizer", start_id=3)
    with pytest.raises(UserError, match="start_id is -1"):
        CausalLM(start_id=-1)
