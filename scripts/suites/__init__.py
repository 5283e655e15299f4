"""Suites that judge a real mount from outside."""
