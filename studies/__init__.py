"""Pipelines beside the main one: each varies one thing of it and says what that does."""
