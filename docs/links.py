"""Links of pages that live elsewhere in the repository: ``store_layout.md`` is ``mmtinyvit/store/README.md``."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Writes ``../../docs/en/PAGE``, which is right where the file lies, as ``PAGE``, which is right in the site."""
    return markdown.replace('](../../docs/en/', '](')
