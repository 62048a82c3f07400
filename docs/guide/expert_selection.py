from . import text_of

__all__: list[str] = []
__doc__ = text_of("3-expert-selection.md")
