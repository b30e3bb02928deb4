import random

from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.training.policy.practice import (
    BUDGETS,
    PROTOCOL,
    Dictionary,
    GuessingTeacher,
    key_value_world,
    practice_policy,
)
from colsearcher.training.policy.teacher import taught_rollouts


def test_the_world_is_read_only_by_searching_and_its_words_are_few_tokens():
    world = key_value_world(names=60, held_out=10)
    assert len(world.learned) == 50 and len(world.held_out) == 10
    assert not {question.id for question in world.learned} & {question.id for question in world.held_out}
    engine = TransformersEngine(practice_policy())
    for name, code in world.codes.items():
        assert len(engine.encode(f" {name}")) == 2 and len(engine.encode(f" {code}")) == 1
    text = "<think>\n<begin_of_query> code of x <end_of_query>"
    assert engine.decode(engine.encode(text)) == text and len(engine.encode(text)) == 9


def test_teachers_search_and_read_as_often_as_they_are_told_to():
    world = key_value_world(names=60, held_out=10)
    engine = TransformersEngine(practice_policy())
    rng = random.Random(0)
    for searches, reads in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0)):
        teachers = [GuessingTeacher(question, rng, searches, reads) for question in world.held_out]
        for teacher, rollout in taught_rollouts(teachers, engine, Dictionary(world), PROTOCOL, BUDGETS):
            assert rollout.parsed.problems == () and bool(rollout.searches) == bool(searches)
            if searches:
                assert world.codes[teacher.question.split()[-2]] in rollout.segments[2].text
                assert searches * reads == 0 or rollout.parsed.answer == world.codes[teacher.question.split()[-2]]
