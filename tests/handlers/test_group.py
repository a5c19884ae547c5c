from ignite.engine import Engine, Events

from miram.handlers import HandlerGroup


class Recorder:
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def attach(self, engine):
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.calls.append(self.name))


def test_handlers_act_in_order_and_disabled_ones_are_left_out():
    calls = []
    engine = Engine(lambda engine, batch: None)
    HandlerGroup([Recorder("first", calls), None, Recorder("second", calls)]).attach(engine)
    engine.run([0])
    assert calls == ["first", "second"]
