import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import BlankInfilling
from t5x_style.errors import UserError
from t5x_style.huggingface.families.chatglm import inputs as chatglm_inputs
from tests.data.objectives.make import CLS, MASK, bert_ids, check_counts, document, fields, ids_of
from tests.data.objectives.make import pieces as made

START, END, GMASK = 30, 31, 21
PLAIN = ids_of(mask=MASK)
INPUTS, TARGETS, POSITIONS, SIGHT = (
    f"decoder_{name}" for name in ("input_tokens", "target_tokens", "positions", "causal_attention")
)
GENERATION = BlankInfilling(generation_probability=1.0)


def pieces(objective, length, targets, **options):
    return made(objective, length, targets=targets, **{"ids": PLAIN, **options})


def test_worked_arrays_of_blanks():
    blanks = [np.array([9, 10], np.int32), np.array([7], np.int32)]
    ids = ids_of(named={"<|startofpiece|>": START, "<|endofpiece|>": END})
    found = BlankInfilling()._fields(np.array([5, 6, 20, 8, 20], np.int32), blanks, np.array([4, 2]), ids)
    assert {name: array.tolist() for name, array in found.items()} == {
        "decoder_input_tokens": [5, 6, 20, 8, 20, 30, 9, 10, 30, 7],
        "decoder_target_tokens": [5, 6, 20, 8, 20, 9, 10, 31, 7, 31],
        "decoder_loss_weights": [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
        "decoder_positions": [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [4, 1], [4, 2], [4, 3], [2, 1], [2, 2]],
        "decoder_causal_attention": [1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
    }
    # and such a piece is drawn of its document
    drawn = pieces(BlankInfilling(noise_density=0.49), 16, [[5, 6, 7, 8, 9, 10]] * 8000)
    seen = {tuple(piece.fields[INPUTS].tolist()) for piece in drawn}
    assert (5, 6, MASK, 8, MASK, START, 9, 10, START, 7) in seen


def test_worked_arrays_of_generation():
    seen = {}
    for seed in range(40):
        (piece,) = pieces(GENERATION, 16, [[5, 6, 7, 8, 9, 10]], seed=seed)
        seen[len(piece.fields[TARGETS]) - int(piece.fields[SIGHT].sum()) - 1] = piece
    assert set(seen) == {1, 2, 3, 4}  # a quarter of 6 to 6 - 2
    found = fields(seen[4])
    assert found[INPUTS] == [5, 6, GMASK, START, 7, 8, 9, 10]
    assert found[TARGETS] == [5, 6, GMASK, 7, 8, 9, 10, END]
    # the positions that ChatGLM's own rules give to this row
    names = {"bos_token_id": START, "gmask_token_id": GMASK, "mask_token_id": MASK}
    theirs = chatglm_inputs(np.array(found[INPUTS]), names)
    assert found[POSITIONS] == theirs["positions"].tolist()
    assert found[SIGHT] == theirs["causal_attention"].tolist()
    assert found[POSITIONS] == [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [2, 3], [2, 4], [2, 5]]


def test_cls_and_eos():
    ids = bert_ids(eos=1, append_eos=frozenset({"targets"}))
    for seed in range(30):
        (piece,) = pieces(BlankInfilling(), 32, [document(10)], ids=ids, seed=seed)
        sight = piece.fields[INPUTS][piece.fields[SIGHT] == 1]
        assert sight[0] == CLS
        assert sight[-1] == 1  # never blanked
        (piece,) = pieces(GENERATION, 32, [document(10)], ids=ids, seed=seed)
        assert piece.fields[INPUTS][0] == CLS
        assert piece.fields[TARGETS][-2:].tolist() == [1, END]  # generated
    (piece,) = pieces(BlankInfilling(), 16, [[7]])
    assert fields(piece)[INPUTS] == [MASK, START, 7]
    (piece,) = pieces(GENERATION, 16, [[7]])
    assert fields(piece)[INPUTS] == [GMASK, START, 7]
    assert pieces(BlankInfilling(), 16, [[]]) == []


def blanks_of(piece):
    """The fillings by the order of their blanks; checks that positions point to the blanks."""
    inputs, targets, positions, sight = (piece.fields[name] for name in (INPUTS, TARGETS, POSITIONS, SIGHT))
    shown = int(sight.sum())
    assert sight[:shown].all()
    assert positions[:shown].tolist() == [[place, 0] for place in range(shown)]
    starts = np.flatnonzero(inputs == START)
    found = {}
    for start, end in zip(starts, [*starts[1:], len(inputs)]):
        (place,) = set(positions[start:end, 0].tolist())
        assert inputs[place] in (MASK, GMASK)
        assert positions[start:end, 1].tolist() == list(range(1, end - start + 1))
        assert inputs[start + 1 : end].tolist() == targets[start : end - 1].tolist()
        assert targets[end - 1] == END
        found[place] = inputs[start + 1 : end].tolist()
    assert starts[0] == shown
    return found


def restored(piece):
    inputs, sight = piece.fields[INPUTS], piece.fields[SIGHT]
    blanks = blanks_of(piece)
    text = []
    for place, token in enumerate(inputs[sight == 1].tolist()):
        text += blanks[place] if token in (MASK, GMASK) else [token]
    return text


def test_lengths_of_blanks():
    """Poisson(3) restricted to 1 .. 39: P(1 .. 6) = .157 .236 .236 .177 .106 .053, mean 3.157."""
    rng = np.random.default_rng(0)
    sizes, covered = [], []
    # blanks are drawn until they hold enough, so the last ones are longer: enough blanks hide that
    for piece in pieces(BlankInfilling(), 4096, [document(3000)] * 80, rng=rng):
        blanks = blanks_of(piece)
        sizes += [len(blank) for blank in blanks.values()]
        covered.append(sum(map(len, blanks.values())))
    sizes = np.array(sizes)
    assert len(sizes) > 10_000
    for size, share in enumerate((0.157, 0.236, 0.236, 0.177, 0.106, 0.053), start=1):
        assert abs(np.mean(sizes == size) - share) < 4.5 * np.sqrt(share / len(sizes))
    assert abs(sizes.mean() - 3.157) < 0.08
    assert 450 <= min(covered) <= max(covered) < 450 + 39


def test_blanks_stand_anywhere_and_in_any_order():
    rng = np.random.default_rng(0)
    first, rising = np.zeros(40), []
    for piece in pieces(BlankInfilling(), 64, [document(40)] * 3000, rng=rng):
        positions, inputs = piece.fields[POSITIONS], piece.fields[INPUTS]
        order = positions[inputs == START, 0]
        if len(order) == 2:
            rising.append(order[0] < order[1])
        text = piece.fields[INPUTS][piece.fields[SIGHT] == 1]
        first[np.flatnonzero(text == MASK)[0]] += 1
    assert abs(np.mean(rising) - 0.5) < 4 * 0.5 / np.sqrt(len(rising))
    assert first[0] > 60  # the first token may be blanked
    assert np.all(first[:25] > 20)


def test_kinds_are_drawn_for_each_piece():
    found = pieces(BlankInfilling(generation_probability=0.3), 32, [document(20)] * 3000, rng=np.random.default_rng(0))
    share = np.mean([GMASK in piece.fields[INPUTS] for piece in found])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 3000)
    ends = [int((piece.fields[SIGHT] == 0).sum()) - 1 for piece in found if GMASK in piece.fields[INPUTS]]
    assert set(ends) == set(range(5, 19))  # a quarter of 20 to 20 - 2
    assert abs(np.mean(ends) - 11.5) < 4 * np.sqrt((14**2 - 1) / 12 / len(ends))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(8, 128),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.15, 0.4]),
    st.booleans(),
    st.integers(0, 100),
)
def test_pieces_make_the_document(size, length, generation, density, around, seed):
    objective = BlankInfilling(generation_probability=generation, noise_density=density)
    ids = bert_ids(eos=1, append_eos=frozenset({"targets"})) if around else PLAIN
    tokens = document(size, seed)
    found = pieces(objective, length, [tokens], ids=ids, seed=seed)
    check_counts(objective, found, size, length)
    text = [token for piece in found for token in restored(piece) if token not in (CLS, 1)]
    assert text == tokens.tolist()
    for piece in found[:-1]:  # rows are full, up to what one more token would bring with it
        assert len(piece.fields[INPUTS]) >= length - 3 - (around and piece is found[-2])
    for piece in found:
        inputs = piece.fields[INPUTS][piece.fields[SIGHT] == 1]
        assert not np.any((inputs[1:] == MASK) & (inputs[:-1] == MASK))  # a token between two blanks


def test_refusals():
    rows = {"decoder": 128}
    BlankInfilling(generation_probability=0.5).check(rows, PLAIN)
    BlankInfilling(blank="[MASK]").check(rows, ids_of())
    for ids, objective, message in [
        (ids_of(), BlankInfilling(), "needs a mask"),
        (ids_of(mask=4, named={}), BlankInfilling(), r"start is <\|startofpiece\|>.*cache again"),
        (PLAIN, BlankInfilling(generated="[end]", generation_probability=0.1), r"generated is \[end\]"),
        (PLAIN, BlankInfilling(blank="[sMASK]"), r"blank is \[sMASK\]"),
    ]:
        with pytest.raises(UserError, match=message):
            objective.check(rows, ids)
    with pytest.raises(UserError, match="no text with a blank"):
        BlankInfilling().check({"decoder": 7}, PLAIN)
    for options in ({"noise_density": 0.5}, {"generation_probability": 1.5}):
        with pytest.raises(UserError):
            BlankInfilling(**options)
