"""Forgetting: what becomes of a queue that is empty and has not been used for long."""

from headrace.forgetting.forgetting import ForgetAnswer, forget, use

__all__ = ["ForgetAnswer", "forget", "use"]
