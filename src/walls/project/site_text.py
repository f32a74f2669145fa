"""A notebook's Markdown as HTML, its formulas as MathML: the pages need no other host."""

import html
import re

from math_core import LatexError, LatexToMathML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

LATEX = LatexToMathML(fancy_error=False)


class Renderer(IPythonRenderer):
    """Markdown to HTML.

    Formulas as MathML, links between notebooks as links between pages, tables in a scrolling box.
    """

    def inline_math(self, body: str) -> str:
        """A formula in the line; a long one may become a line of its own on a narrow screen."""
        formula = mathml(body)
        return f'<span class="long">{formula}</span>' if len(plain(formula)) > 24 else formula

    def block_math(self, body: str) -> str:
        """A displayed formula; a block of its own, so that it scrolls where it is too wide.

        Its number, a `\\tag`, stands beside it.
        """
        number = re.search(r"\\tag\{(\w+)\}", body)
        formula = mathml(body.replace(number[0], "") if number else body, display=True)
        beside = f'<span class="number">({number[1]})</span>' if number else ""
        return f'<span class="display" tabindex="0">{formula}{beside}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        """A displayed environment."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def heading(self, text: str, level: int, **attrs) -> str:
        """A heading that can be linked to."""
        return f'<h{level} id="{slug(plain(text))}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link to another page or another host.

        Files that the site doesn't hold are named without a link.
        """
        notebook = re.fullmatch(r"(?:\./)?([\w-]+)\.ipynb(#.*)?", url)
        if notebook:
            url = f"{notebook[1]}.html{notebook[2] or ''}"
        elif not url.startswith(("https://", "#")):
            return text
        return super().link(text, url, title)

    def table(self, text: str) -> str:
        """A table in a box of its own."""
        return f'<div class="scroll" tabindex="0"><table>{text}</table></div>\n'


def mathml(latex: str, display: bool = False) -> str:
    """A formula as MathML; ValueError where it can't be converted."""
    try:
        converted = LATEX.convert_with_local_state(latex.strip(), displaystyle=display)
    except LatexError as error:
        raise ValueError(f"formula: got {latex.strip()}; {error}") from None
    # Browsers stretch a tall bracket that carries an exponent wrongly, unless something stands
    # beside it.
    converted = re.sub(
        r"<(msu[bp]+)>(<mo minsize[^>]*>[^<]*</mo>)", r"<\1><mrow>\2<mspace/></mrow>", converted
    )
    # Fonts draw a prime raised already; as a superscript it would be tiny.
    return re.sub(
        r"<msup>(<mi>[^<]*</mi>)<mo>′</mo></msup>",
        r'<mrow>\1<mo lspace="0" rspace="0">′</mo></mrow>',
        converted,
    )


def markdown(text: str) -> str:
    """A notebook's Markdown as HTML; no line breaks between a formula and the comma after it."""
    rendered = MarkdownWithMath(renderer=Renderer(escape=False)).render(text)
    rendered = re.sub(r"</math></span>([.,;:)”]+)", r"</math>\1</span>", rendered)
    return re.sub(
        r"(<math>(?:(?!</?math).)*</math>)([.,;:)”]+)(?!</span>)",
        r'<span class="joined">\1\2</span>',
        rendered,
    )


def plain(fragment: str) -> str:
    """The text of a piece of HTML, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", fragment)).split())


def slug(text: str) -> str:
    """A heading's text as an id."""
    return "-".join(re.findall(r"\w+", text.lower()))
