"""Tests of the diagnosis stage, on incidents whose cause is known because they were made."""
