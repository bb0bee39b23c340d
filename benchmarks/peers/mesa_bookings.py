"""Bookings per second of a toy model in mesa: people book if seats are free, attend or not, and are paid in floats."""

import sys
import time

import mesa


class Person(mesa.Agent):
    def step(self):
        self.booked = self.model.free > 0 and self.random.random() < 0.95
        self.model.free -= self.booked
        self.attended = self.booked and self.random.random() > 0.135
        self.received = 0.2 * self.model.price if self.attended else 0.0


class Run(mesa.Model):
    def __init__(self, people, seed):
        super().__init__(rng=seed)
        self.price, self.free = self.random.uniform(0.001, 0.02), 25
        Person.create_agents(self, people)

    def step(self):
        self.agents.shuffle_do("step")
        booked = [person for person in self.agents if person.booked]
        revenue = self.price * len(booked)
        self.host, self.platform = (
            0.95 * revenue,
            0.05 * revenue + 0.2 * self.price * sum(not b.attended for b in booked),
        )
        self.bookings = len(booked)


people, bookings, started = int(sys.argv[1]), 0, time.perf_counter()
for seed in range(1_000):
    run = Run(people, seed)
    run.step()
    bookings += run.bookings
sys.stdout.write(f"{bookings / (time.perf_counter() - started)}\n")
