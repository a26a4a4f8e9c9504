"""The model card says what the code does, and is of the weights that ship."""

import re

from experiments.menagerie_card import CARD, LINES
from probe.generator import weights
from probe.generator.train.stages import RECIPES
from probe.generator.world import held_out, rare
from probe.generator.world import vocabulary as v

PAGE = " ".join(CARD.read_text().split())


def test_the_table_is_of_the_weights_that_ship_and_has_every_line():
    assert f"<!-- of {weights.revision()[:12]} -->" in PAGE
    assert set(re.findall(r"--only (\w+) --pictures \d+", PAGE)) == set(LINES)


def test_planted_shares_and_pairs_are_those_of_the_world():
    men = ", ".join(f"{job} {share:.0%}".replace("%", " %") for job, share in v.MAN_SHARE.items())
    assert f"Planted shares of men: {men}." in PAGE
    for who, name in (("farmer", "farmer"), ("judge", "judge"), ("all others", "default")):
        assert f"{who} {', '.join(f'{100 * share:.0f}' for share in v.TONE_SHARE[name])}" in PAGE
    assert f"{len(rare())} pairs of subjects are rare" in PAGE
    assert all(f"{a} and {b}" in PAGE for a, b in map(sorted, held_out()))


def test_words_that_mean_nothing_are_listed():
    unsaid = v.UNSAID.split()
    told = f"Of the tokenizer's {len(v.all_words())} words, {len(unsaid)} are in no caption"
    assert told in PAGE and ", ".join(unsaid) in PAGE


def test_recipes_are_those_of_the_command():
    told = PAGE.partition("as its recipe says")[2].partition("The weights that ship")[0]
    assert sorted(re.findall(r"\d+,\d+", told)) == sorted(f"{recipe.samples:,}" for recipe in RECIPES.values())
