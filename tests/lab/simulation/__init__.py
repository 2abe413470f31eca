"""Incidents from a simulation: services as queues, a real Prometheus, a real git repository, real log files.

Nothing but the numbers is made up: what the advisor asks is answered by the same programs as in the field. Started as
``python -m tests.lab.simulation``; see ``README.md``.
"""
