"""The HTML of the crawl's pages: object pages with a site's usual boilerplate, and meta tags for pydoc's pages."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from beam_pipelines.sources.documentation.docstring_html import docstring_html
from beam_pipelines.sources.documentation.objects import DocumentedObject

SITE = "http://docs.python.local"
SIDEBAR_LINKS = 12


def object_url(module: str, name: str) -> str:
    """Address of an object's page: `SITE/<package>/<module path>/<object>.html`."""
    return f"{SITE}/{module.replace('.', '/')}/{name}.html"


def module_url(module: str) -> str:
    """Address of a module's pydoc page: `SITE/<package>/<module path>/index.html`."""
    return f"{SITE}/{module.replace('.', '/')}/index.html"


def meta_tags(meta: Mapping[str, str]) -> str:
    """One `<meta name=... content=...>` line per entry."""
    return "\n".join(f'<meta name="{name}" content="{html.escape(value)}">' for name, value in meta.items())


def object_meta(thing: DocumentedObject) -> dict[str, str]:
    """What the tasks read about a page: kind, object, package, module, summary, and arguments or methods."""
    meta = {
        "kind": thing.kind,
        "object": thing.qualified_name,
        "package": thing.package,
        "module": thing.module,
        "summary": thing.summary,
    }
    if thing.kind == "class":
        meta["methods"] = ",".join(thing.method_names)
    else:
        meta["arguments"] = ",".join(thing.arguments)
    return meta


def _breadcrumb(thing: DocumentedObject) -> str:
    parts = thing.module.split(".")
    links = [
        f'<a href="{module_url(".".join(parts[: i + 1]))}">{html.escape(part)}</a>' for i, part in enumerate(parts)
    ]
    return " &rsaquo; ".join([*links, f"<span>{html.escape(thing.name)}</span>"])


def _methods(thing: DocumentedObject) -> str:
    if not thing.public_methods:
        return ""
    items = []
    for method in thing.public_methods:
        summary = f"<dd>{html.escape(method.summary, quote=False)}</dd>" if method.summary else ""
        items.append(f"<dt><code>{html.escape(method.signature, quote=False)}</code></dt>{summary}")
    return "<h2>Methods</h2>\n<dl>\n" + "\n".join(items) + "\n</dl>"


def _sidebar(thing: DocumentedObject, siblings: Sequence[str]) -> str:
    at = siblings.index(thing.name)
    start = max(0, min(at - SIDEBAR_LINKS // 2, len(siblings) - SIDEBAR_LINKS))
    return "\n".join(
        f'<li><a href="{object_url(thing.module, name)}">{html.escape(name)}</a></li>'
        for name in siblings[start : start + SIDEBAR_LINKS]
    )


def object_page(thing: DocumentedObject, siblings: Sequence[str], version: str) -> str:
    """The HTML page of a class or function.

    Args:
      thing: the object.
      siblings: names of its module's pages, for the sidebar.
      version: of the distribution, for the footer.
    """
    title = html.escape(thing.qualified_name)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title} - {html.escape(thing.package)} reference</title>
{meta_tags(object_meta(thing))}
<link rel="stylesheet" href="{SITE}/static/reference.css">
<script src="{SITE}/static/search.js"></script>
</head>
<body>
<header><nav class="navbar"><a href="{SITE}/">Home</a> <a href="{SITE}/packages.html">Packages</a>
<a href="{SITE}/modules.html">Modules</a> <a href="{SITE}/genindex.html">Index</a>
<form action="{SITE}/search.html"><input name="q" placeholder="Search"></form></nav></header>
<aside class="sidebar"><h3>On this site</h3>
<ul>
{_sidebar(thing, siblings)}
</ul></aside>
<main><article>
<nav class="breadcrumb">{_breadcrumb(thing)}</nav>
<h1>{title}</h1>
<pre class="signature">{html.escape(thing.signature, quote=False)}</pre>
{docstring_html(thing.docstring)}
{_methods(thing)}
</article></main>
<footer><p>Reference of {html.escape(thing.package)} {html.escape(version)}.
<a href="{SITE}/privacy.html">Privacy</a> <a href="{SITE}/contact.html">Contact</a></p></footer>
</body>
</html>
"""


def with_meta(pydoc_page: str, meta: Mapping[str, str]) -> str:
    """pydoc's page with meta tags at the start of its head."""
    return pydoc_page.replace("<head>", f"<head>\n{meta_tags(meta)}", 1)
