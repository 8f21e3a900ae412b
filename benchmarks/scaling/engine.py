"""The simulation itself: a heap of events, each of which happens at its time and may cause others.

Everything random is drawn from one seeded generator in the order of events, so a seed gives the same run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scaling.parts import Gateway, Job, Worker
from scaling.record import Record
from scaling.shape import Run

_BLOCK = 65_536


class Simulation:
    """One run. `record` holds what was seen."""

    def __init__(self, run: Run) -> None:
        self.run, self.costs, self.cluster = run, run.costs, run.cluster
        self.record = Record(run.load.seconds)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._random = np.random.Generator(np.random.Philox(run.seed))
        self._gaps: list[float] = []
        self._lengths: list[int] = []
        zones = self.cluster.zones
        self.workers = [Worker(number % zones) for number in range(self.cluster.workers)]
        self.gateways = [Gateway(number % zones) for number in range(self.cluster.gateways)]
        for gateway in self.gateways:
            places = -1 - self._random.permutation(len(self.workers)) if self.cluster.own_order else None
            for number in range(len(self.workers)):
                gateway.add(number, 0 if places is None else int(places[number]))
        self._turn = 0
        self.starting = 0
        self.ready = len(self.workers)

    def go(self) -> Record:
        """Simulate to the end of the load."""
        load = self.run.load
        if load.closed:
            for _ in range(load.closed):
                self._at(0.0, self._arrive)
        else:
            self._next_arrival()
        if self.run.lost_zone_at is not None:
            self._at(self.run.lost_zone_at, self._lose_zone)
        if self.run.scaler is not None:
            from scaling.autoscaler import Autoscaler

            Autoscaler(self, self.run.scaler).start()
        self._at(1.0, self._sample)
        while self._events:
            when, _, what, given = heapq.heappop(self._events)
            if when > load.seconds:
                break
            self.now = when
            what(*given)
        return self.record

    def later(self, seconds: float, what: Callable[..., None], *given: Any) -> None:
        """Let `what` happen so much later."""
        self._at(self.now + seconds, what, *given)

    def _at(self, when: float, what: Callable[..., None], *given: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, what, given))

    # Requests

    def _next_arrival(self) -> None:
        """Poisson, at the rate of its time; where the rate changes, it is drawn anew, as it has no memory."""
        if not self._gaps:
            self._gaps = self._random.exponential(1.0, _BLOCK).tolist()
        gap = self._gaps.pop()
        rate, until = 0.0, math.inf
        for begins, value in self.run.load.rates:
            if begins <= self.now:
                rate = value
            else:
                until = begins
                break
        when = self.now + gap / rate if rate > 0 else math.inf
        if when > until:
            self._at(until, self._next_arrival)
        elif when < math.inf:
            self._at(when, self._arrive_and_go_on)

    def _arrive_and_go_on(self) -> None:
        self._arrive()
        self._next_arrival()

    def _arrive(self) -> None:
        if not self._lengths:
            mean = self.run.load.tokens
            drawn = (
                np.full(_BLOCK, int(mean))
                if self.run.load.alike
                else self._random.geometric(1 / mean, _BLOCK)
            )
            self._lengths = drawn.tolist()
        job = Job(self.now, self._lengths.pop(), self.now >= self.run.warm_s)
        self.record.arrived += 1
        self._take(job)

    def _take(self, job: Job) -> None:
        """A gateway takes the request, in turn, and does its own work for it."""
        self._turn += 1
        while not self.gateways[self._turn % len(self.gateways)].alive:
            self._turn += 1
        job.gateway = self._turn % len(self.gateways)
        gateway = self.gateways[job.gateway]
        slowed = 1.0 - self.watching()
        begun = max(self.now, gateway.free)
        gateway.free = begun + (self.costs.request_s + self.costs.token_s * job.tokens) / slowed
        self._at(begun + self.costs.request_s / slowed + self.costs.lag_s, self._enqueue, job)

    def watching(self) -> float:
        """The part of a gateway's processor that looks at all workers take; at most nearly all of it."""
        return min(0.99, self.ready * self.costs.look_s / self.cluster.look_every_s)

    def _enqueue(self, job: Job) -> None:
        gateway = self.gateways[job.gateway]
        if not gateway.alive:
            self._lost_with_its_gateway(job)
            return
        if len(gateway.queue) >= self.cluster.queue_jobs:
            self.record.refused += 1
            job.done = True
            return
        gateway.queue.append(job)
        self._dispatch(gateway)

    def _dispatch(self, gateway: Gateway) -> None:
        """Send what the gateway may have in flight."""
        most = math.ceil(self.cluster.slots * self.ready * self.cluster.inflight_per_slot)
        while gateway.queue and gateway.inflight < most:
            job = gateway.queue.popleft()
            if job.done:
                continue
            gateway.inflight += 1
            self._send(gateway, job)

    def _send(self, gateway: Gateway, job: Job) -> None:
        self._number += 1
        number = gateway.pick(self.now, self._number)
        job.worker = number
        job.epoch += 1
        worker = self.workers[number]
        if worker.alive:
            worker.queue.append((job, job.epoch))
            self._fill(number)
        else:
            self.later(self.cluster.connect_s, self._unreachable, job, job.epoch)

    # Workers

    def _fill(self, number: int) -> None:
        """Rows that are free are given to those who wait longest."""
        worker, costs = self.workers[number], self.costs
        worker.advance(self.now, costs)
        while worker.queue and len(worker.rows) < self.cluster.slots:
            job, epoch = worker.queue.popleft()
            self._number += 1
            heapq.heappush(worker.rows, (worker.clock + job.left, self._number, job, epoch))
            if job.first < 0:
                job.first = self.now + costs.step(len(worker.rows))
        if worker.rows:
            end = worker.next_end(costs)
            # More rows only put ends off: an event that comes too early looks again.
            if worker.due < self.now or end < worker.due:
                worker.due = end
                self._at(end, self._ends, number, end)

    def _ends(self, number: int, due: float) -> None:
        worker = self.workers[number]
        if not worker.alive or worker.due != due:
            return
        worker.advance(self.now, self.costs)
        worker.due = -1.0
        while worker.rows and worker.rows[0][0] <= worker.clock + 1e-6:
            _, _, job, epoch = heapq.heappop(worker.rows)
            if epoch == job.epoch and not job.done:
                self._finish(job)
        self._fill(number)

    def _finish(self, job: Job) -> None:
        job.done = True
        gateway = self.gateways[job.gateway]
        gateway.ended(job.worker)
        gateway.inflight -= 1
        gateway.failures.pop(job.worker, None)
        self.record.finished(job, self.now)
        if self.run.load.closed:
            self._arrive()
        self._dispatch(gateway)

    # Mishaps

    def _lose_zone(self) -> None:
        """Zone 0 falls silent: no connection is closed, nothing answers. Its gateways' clients ask others."""
        for gateway in [gateway for gateway in self.gateways if gateway.zone == 0]:
            gateway.alive = False
        lost = [job for gateway in self.gateways if not gateway.alive for job in gateway.queue]
        for number, worker in enumerate(self.workers):
            if worker.zone == 0 and worker.alive:
                worker.advance(self.now, self.costs)
                worker.alive = False
                for end, _, job, epoch in worker.rows:
                    if epoch == job.epoch:
                        job.left = worker.remaining(end)
                        self.later(self.cluster.liveness_s, self._silent, job, epoch)
                for job, epoch in worker.queue:
                    self.later(self.cluster.liveness_s, self._silent, job, epoch)
                self.later(self.cluster.forget_s, self._forget, number)
        for worker in self.workers:
            lost += [job for _, _, job, _ in worker.rows if not self.gateways[job.gateway].alive]
            lost += [job for job, _ in worker.queue if not self.gateways[job.gateway].alive]
        for job in dict.fromkeys(lost):
            if not job.done:
                self._lost_with_its_gateway(job)

    def _lost_with_its_gateway(self, job: Job) -> None:
        """The client sees its connection break, and asks again from the start."""
        job.done = True
        self.record.broken += 1
        self.later(self.cluster.ask_again_s, self._ask_again, job)

    def _ask_again(self, job: Job) -> None:
        again = Job(job.arrived, job.tokens, job.counted)
        self._take(again)

    def _silent(self, job: Job, epoch: int) -> None:
        """No sign of life: what is left is made elsewhere."""
        if epoch == job.epoch and not job.done and self.gateways[job.gateway].alive:
            self.record.resumed += 1
            self._again(job)

    def _unreachable(self, job: Job, epoch: int) -> None:
        if epoch == job.epoch and not job.done and self.gateways[job.gateway].alive:
            self._again(job)

    def _again(self, job: Job) -> None:
        gateway = self.gateways[job.gateway]
        gateway.ended(job.worker)
        gateway.failed(job.worker, self.now, self.cluster.eject_s)
        self._send(gateway, job)

    def _forget(self, number: int) -> None:
        """Its address is not in the Service any more."""
        self.ready -= 1
        for gateway in self.gateways:
            gateway.forget(number)

    def join(self, zone: int) -> None:
        """A new worker is ready, and known to all gateways."""
        self.workers.append(Worker(zone))
        self.ready += 1
        for gateway in self.gateways:
            gateway.add(len(self.workers) - 1)
            self._dispatch(gateway)

    def leave(self, number: int) -> None:
        """A worker gets no new work; what it has, it finishes."""
        self.ready -= 1
        for gateway in self.gateways:
            gateway.forget(number)

    # What can be seen

    def waiting(self) -> int:
        """Jobs that wait at gateways."""
        return sum(len(gateway.queue) for gateway in self.gateways if gateway.alive)

    def in_hand(self) -> int:
        """Jobs that gateways have with workers."""
        return sum(gateway.inflight for gateway in self.gateways if gateway.alive)

    def _sample(self) -> None:
        rows = sum(len(worker.rows) for worker in self.workers if worker.alive)
        alive = sum(worker.alive for worker in self.workers)
        self.record.sampled(self.now, self.ready, alive, self.waiting(), self.in_hand(), rows)
        self.later(1.0, self._sample)
