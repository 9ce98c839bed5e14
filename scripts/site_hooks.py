"""mkdocs hooks of the web site: pages from outside docs/, the API reference, and links that work on GitHub and on the site.

The addresses of the repository and of the site come from [project.urls] in pyproject.toml. Links to files that are no page of the site
(sources, configs, Dockerfiles) become links into the repository. Needs mkdocs alone: nothing of the project is imported.
"""

import ast
import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mkdocs.structure.files import File
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parent.parent
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]

TOP_PAGES = {"README.md": "index.md", "README.zh.md": "zh/index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""File at the repository's top -> page of the site."""

REFERENCE = {
    "person.md": [
        "geneface_jax.inference.person",
        "geneface_jax.inference.controls",
        "geneface_jax.inference.streaming",
        "geneface_jax.rendering.landmark_video",
        "data_tools.avatar.speakers",
        "data_tools.errors",
    ],
    "pipeline.md": ["geneface_jax.pipeline", "geneface_jax.inference.culling", "data_tools.prepare", "geneface_jax.export"],
    "training.md": [
        "geneface_jax.io.configs",
        "geneface_jax.training.loop",
        "geneface_jax.training.stage",
        "geneface_jax.training.recovery",
        "geneface_jax.training.reporting",
        "geneface_jax.data.subject",
    ],
    "models.md": [
        "geneface_jax.models.head",
        "geneface_jax.models.torso",
        "geneface_jax.models.audio2motion",
        "geneface_jax.models.postnet",
        "geneface_jax.models.syncnet",
        "geneface_jax.models.super_resolution",
        "geneface_jax.models.nerf",
    ],
    "kernels.md": ["geneface_kernels"],
    "evaluation.md": [
        "geneface_jax.evaluation.evaluate",
        "geneface_jax.evaluation.heldout",
        "geneface_jax.evaluation.metrics",
        "geneface_jax.evaluation.lips",
    ],
}
"""Page of reference/ -> the modules whose docstrings it shows. Titles are in mkdocs.yml."""

_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
_BLOCK = re.compile(r"\||[-*] |\d+\. ")
_GITHUB_PAGE = re.compile(r"\.\./\.\./(actions|discussions|issues|pulls|releases|security)\b")


def on_config(config):
    """Sets the addresses, and headings' anchors as GitHub makes them."""
    config.repo_url, config.site_url = URLS["Repository"], URLS["Documentation"]
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files, config):
    """Adds the pages that don't lie in docs/."""
    for source, page in TOP_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/names.md", content=public_names()))
    for page, modules in REFERENCE.items():
        files.append(File.generated(config, f"reference/{page}", content="".join(f"::: {module}\n\n" for module in modules)))
    return files


def on_page_markdown(markdown, page, config, files):
    """A page as Python-Markdown and the site need it."""
    name = page.file.src_uri
    return name.startswith("reference/") and markdown or adapt(markdown, name)


def on_post_page(output, page, config):
    """Tells browsers which pages are Chinese: it decides on fonts and line breaks."""
    return output.replace('<html lang="en"', '<html lang="zh-Hans"', 1) if page.file.src_uri.startswith("zh/") else output


def public_names() -> str:
    """The first page of the reference: the names that `import geneface_jax` gives, linked to their descriptions; read from the source."""
    source = (ROOT / "geneface_jax" / "__init__.py").read_text(encoding="utf-8")
    (table,) = [node.value for node in ast.parse(source).body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PUBLIC"]
    lines = ["# All names", "What `import geneface_jax as gf` gives; [the page on the Python API](../api.md) shows how it is used.", ""]
    for module, names in ast.literal_eval(table).items():
        for name, _, public in (text.partition(" as ") for text in names):
            lines.append(f"- [`gf.{public or name}`][{module}.{name}]")
    return "\n".join(lines) + "\n"


def adapt(markdown: str, page: str) -> str:
    """A page's text with links for the site and with the empty lines that Python-Markdown, unlike GitHub, needs before lists and tables.

    Args:
      markdown: the text as it is in the repository.
      page: path of the page in the site's sources, for example "zh/install.md".
    """
    source = {site: top for top, site in TOP_PAGES.items()}.get(page, f"docs/{page}")
    parts = []
    for text, is_code in _split(markdown):
        if not is_code:
            text = _LINK.sub(lambda found: found[1] + site_link(found[2], source, page) + found[3], text)
            text = "\n".join(_spaced(text.split("\n")))
        parts.append(text)
    return "".join(parts)


def site_link(target: str, source: str, page: str) -> str:
    """Where a link leads on the site.

    Args:
      target: the link as written.
      source: the file that it is written in, from the repository's top.
      page: the page that is made of it, from docs/.

    Returns:
      The link from `page` to another page or file of docs/, else an address in the repository; `target` where nothing is there, so that
      mkdocs reports it.
    """
    if "/" not in source and (github := _GITHUB_PAGE.match(target)):
        return f"{URLS['Repository']}/{github[1]}{target[github.end() :]}"
    path, mark, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target) or not path:
        return target
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if file in TOP_PAGES or file.startswith("docs/"):
        inside = TOP_PAGES.get(file, file.removeprefix("docs/"))
        return posixpath.relpath(inside, posixpath.dirname(page) or ".") + mark + anchor
    if not (ROOT / file).exists():
        return target
    kind = "tree" if (ROOT / file).is_dir() else "blob"
    return f"{URLS['Repository']}/{kind}/main/{file}{mark}{anchor}"


def _split(markdown: str) -> Iterator[tuple[str, bool]]:
    """(text, whether it is a fenced block) in order."""
    end = 0
    for fence in _FENCE.finditer(markdown):
        yield markdown[end : fence.start()], False
        yield fence[0], True
        end = fence.end()
    yield markdown[end:], False


def _spaced(lines: list[str]) -> Iterator[str]:
    """The lines, with an empty one before a list or a table that follows a paragraph."""
    before = ""
    for line in lines:
        if _BLOCK.match(line) and before.strip() and not _BLOCK.match(before) and not before.startswith(("#", " ")):
            yield ""
        yield line
        before = line
