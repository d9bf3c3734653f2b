"""The words that `stated` reads: units, forms, verbs. Sizes are tokens of an English answer."""

from __future__ import annotations

NUMBERS = {
    "one": 1.0, "single": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0,
    "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "eleven": 11.0, "twelve": 12.0,
    "fifteen": 15.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0,
    "hundred": 100.0, "couple": 2.0, "few": 3.0, "several": 4.0, "dozen": 12.0,
}  # fmt: skip


def number(word: str) -> float | None:
    """Read a number written in digits or as a word; None if it is neither."""
    if word.isascii() and word.isdigit() and len(word) <= 5:
        return float(word)
    return NUMBERS.get(word)


#: unit -> tokens of one
UNITS = {
    "word": 1.35, "words": 1.35, "sentence": 26.0, "sentences": 24.0, "line": 14.0, "lines": 12.0,
    "paragraph": 105.0, "paragraphs": 100.0, "page": 550.0, "pages": 550.0, "bullet": 28.0,
    "bullets": 28.0, "characters": 0.25, "tokens": 1.0,
    "stanza": 40.0, "stanzas": 40.0, "verses": 40.0, "chapters": 600.0, "phrase": 8.0,
}  # fmt: skip
#: unit -> tokens where there is one of it
ONE_UNIT = {"word": 3.0}
#: Units that also count what is talked of; they need a verb of making beside them.
WEAK_UNITS = frozenset({
    "line", "lines", "page", "pages", "characters", "tokens", "chapters",
    "verses", "words", "sentences",
})  # fmt: skip
SINGLE_LEADS = frozenset({
    "in", "with", "as", "write", "just", "using", "than", "give", "form", "only", "create",
})  # fmt: skip
BREAKS_COUNT = frozenset({
    "the", "this", "these", "following", "each", "every", "first", "last", "letter", "syllable",
    "and", "of", "more", "to",
})  # fmt: skip
AT_MOST = frozenset({
    "under", "less", "fewer", "most", "max", "maximum", "within", "exceed", "below", "no",
})  # fmt: skip
AT_LEAST = frozenset({"least", "minimum", "over", "min"})

CLOSED_PAIRS = {
    frozenset({"yes", "no"}): 5.0,
    frozenset({"true", "false"}): 8.0,
}
ONLY = frozenset({"only", "just", "simply", "nothing"})
ANSWERING = frozenset({
    "answer", "answers", "reply", "respond", "response", "output", "return", "print", "say",
    "state", "provide", "give", "tell", "name",
})  # fmt: skip
ARTICLES = frozenset({"the", "a", "an", "one", "your"})
#: What a closed answer is: "answer with a number", "reply with one of the two".
CLOSED_OBJECTS = frozenset({
    "number", "letter", "digit", "date", "year", "name", "label", "category", "symbol",
    "percentage", "boolean", "emoji", "integer", "one", "word",
})  # fmt: skip
LARGE_OBJECTS = frozenset({
    "code", "json", "function", "translation", "translated", "corrected", "list", "query", "sql",
    "text", "sentence", "sentences", "rewritten", "poem", "email", "story", "program", "script",
    "paragraph", "words", "table", "html", "lines", "version", "summary", "prompt", "examples",
    "article", "essay", "information", "details", "correct", "following",
})  # fmt: skip
CHOICE = frozenset({"option", "options", "choice", "correct", "single", "only", "just", "choose"})
REASONING = frozenset({
    "explain", "why", "reason", "reasons", "reasoning", "justify", "elaborate", "discuss",
    "explanation", "explanations",
})  # fmt: skip
NEGATIONS = frozenset({"not", "without", "don", "dont", "never", "nor", "any"})

LABEL_VERBS = frozenset({"classify", "categorize", "categorise", "sentiment"})
LABEL_OPENERS = frozenset({"label", "rate", "tag", "grade", "spam"})
LABEL_NOUNS = frozenset({"sentiment", "category", "label", "emotion", "tone", "topic", "genre"})
ASKING = frozenset({"what", "which", "determine", "identify", "detect", "decide", "assign"})
POLAR = frozenset({"positive", "negative"})

EXTRACT_VERBS = frozenset({"extract", "pull", "retrieve", "parse"})
EXTRACT_OPENERS = frozenset({"list", "name", "find", "identify"})
STRUCTURED = frozenset({"json", "yaml", "xml", "csv"})

#: verb -> tokens of the answer for one token of the text that it is given
REWORK_RATIO = {
    "translate": 1.25, "translation": 1.25, "rewrite": 1.05, "rephrase": 1.05, "paraphrase": 1.05,
    "reword": 1.05, "correct": 1.0, "proofread": 1.0, "fix": 1.0, "edit": 1.0, "capitalize": 1.0,
    "uppercase": 1.1, "lowercase": 1.0, "reverse": 1.1, "sort": 1.0, "alphabetize": 1.0,
    "alphabetical": 1.0, "alphabetically": 1.0, "reorder": 1.0, "rearrange": 1.0, "simplify": 0.9,
    "grammar": 1.0, "improve": 1.1, "shorten": 0.6, "complete": 0.5, "unscramble": 0.5,
    "summarize": 0.3, "summarise": 0.3, "summary": 0.3, "summarization": 0.3, "tldr": 0.25,
}  # fmt: skip
REWORK_AT_END = frozenset({
    "translate", "rewrite", "rephrase", "paraphrase", "reword", "proofread", "summarize",
    "summarise", "tldr", "alphabetical", "alphabetically",
})  # fmt: skip
SUMMARY_VERBS = frozenset({"summarize", "summarise", "summary", "summarization", "tldr"})
NEEDS_PAYLOAD = SUMMARY_VERBS | {
    "correct", "fix", "edit", "improve", "complete", "reverse", "sort", "grammar", "simplify",
}  # fmt: skip

COMPOSING = frozenset({
    "write", "compose", "create", "generate", "draft", "make", "implement", "code", "build",
    "design", "develop", "prepare",
})  # fmt: skip
MAKING = COMPOSING | frozenset({
    "write", "compose", "create", "generate", "draft", "make", "give", "tell", "suggest", "produce",
    "provide", "describe", "explain", "summarize", "summarise", "implement", "code", "build",
    "design", "develop", "prepare", "answer", "reply", "respond", "return", "output", "list",
    "use", "using", "define", "discuss", "invent", "limit", "keep", "need", "want", "come",
})  # fmt: skip
LIST_VERBS = frozenset({
    "list", "give", "name", "suggest", "provide", "write", "generate", "tell", "recommend", "find",
    "create", "propose", "brainstorm", "mention", "identify", "state", "come", "enumerate", "offer",
})  # fmt: skip
#: Words that a number to list may follow ("what are 5", "top ten").
LIST_LEADS = LIST_VERBS | {"are", "top"}
NOT_COUNTED = frozenset({
    "year", "years", "old", "minute", "minutes", "hour", "hours", "day", "days", "week", "weeks",
    "month", "months", "percent", "kg", "km", "miles", "people", "of", "dollars", "player", "th",
    "word", "words", "and", "or", "digit", "dimensional",
})  # fmt: skip
SHORT_ITEMS = frozenset({
    "name", "names", "word", "words", "synonyms", "antonyms", "colors", "colours", "numbers",
    "cities", "countries", "animals", "fruits", "vegetables", "titles", "hashtags", "keywords",
    "letters", "languages", "emojis", "adjectives", "verbs", "nouns", "rhymes",
})  # fmt: skip
RICH_ITEMS = frozenset({
    "idea", "ideas", "tip", "tips", "reasons", "ways", "explain", "describe", "description",
    "benefits", "advantages", "disadvantages", "steps", "questions", "examples", "strategies",
    "facts", "sentences", "pros", "cons", "arguments", "suggestions", "each", "differences",
})  # fmt: skip

ONE_OF = (["a"], ["an"], ["one"], ["the"])

#: form -> usual tokens
FORMS = {
    "haiku": 24.0, "haikus": 60.0, "limerick": 60.0, "tweet": 45.0, "tweets": 180.0, "slogan": 14.0,
    "tagline": 14.0, "motto": 14.0, "title": 14.0, "headline": 16.0, "caption": 25.0, "joke": 40.0,
    "pun": 25.0, "riddle": 45.0, "quote": 35.0, "couplet": 24.0, "synonym": 10.0, "synonyms": 25.0,
    "antonym": 10.0, "antonyms": 25.0, "rhyme": 40.0, "definition": 50.0, "sonnet": 170.0,
    "poem": 210.0, "song": 300.0, "lyrics": 320.0, "rap": 330.0, "email": 210.0, "mail": 210.0,
    "letter": 280.0, "message": 70.0, "note": 90.0, "story": 500.0, "tale": 500.0, "essay": 620.0,
    "article": 650.0, "blog": 650.0, "speech": 520.0, "report": 600.0, "screenplay": 600.0,
    "dialogue": 400.0, "dialog": 400.0, "chapter": 800.0, "novel": 900.0, "review": 220.0,
    "bio": 140.0, "biography": 400.0, "outline": 350.0, "recipe": 350.0, "itinerary": 500.0,
    "plan": 480.0, "guide": 600.0, "tutorial": 620.0, "proposal": 550.0, "monologue": 400.0,
    "paper": 700.0, "lecture": 700.0,
}  # fmt: skip
AMBIGUOUS_FORMS = frozenset({"title", "message", "note", "plan", "paper", "review", "quote"})
FORM_LEADS = frozenset({"a", "an", "short", "can"})

#: kind of program -> usual tokens
PROGRAMS = {
    "function": 130.0, "method": 130.0, "functions": 260.0, "regex": 45.0, "regexp": 45.0,
    "query": 90.0, "oneliner": 40.0, "liner": 40.0, "expression": 45.0, "command": 70.0,
    "snippet": 170.0, "loop": 120.0,
    "class": 300.0, "script": 320.0, "program": 320.0, "code": 300.0, "app": 500.0, "game": 550.0,
    "website": 600.0, "component": 400.0, "api": 450.0, "application": 500.0, "page": 450.0,
}  # fmt: skip
PROGRAM_WORDS = frozenset({
    "python", "javascript", "java", "typescript", "sql", "html", "css", "bash", "shell", "rust",
    "golang", "kotlin", "swift", "php", "ruby", "perl", "react", "django", "flask", "pandas",
    "numpy", "pytorch", "code", "function", "program", "script", "def", "import", "const", "var",
    "c", "cpp", "csharp", "api", "algorithm", "regex", "excel", "query", "class",
})  # fmt: skip

#: Words that stand in prompts on code and hardly elsewhere.
CODE_WORDS = frozenset({
    "python", "javascript", "typescript", "sql", "html", "css", "bash", "django", "flask", "pandas",
    "numpy", "pytorch", "code", "def", "const", "var", "cpp", "csharp", "api", "npm", "null", "int",
    "async", "println", "printf", "struct", "github", "void",
})  # fmt: skip

BRIEF = frozenset({
    "briefly", "brief", "concise", "concisely", "succinct", "succinctly", "tldr", "shortly",
    "tersely", "terse",
})  # fmt: skip
THOROUGH = frozenset({
    "detail", "detailed", "details", "comprehensive", "thorough", "thoroughly", "extensively",
    "elaborate", "exhaustive", "long", "lengthy", "depth",
})  # fmt: skip

SUMS = frozenset({
    "plus", "minus", "times", "divided", "multiplied", "calculate", "compute", "percent", "sum",
    "product", "root", "squared",
})  # fmt: skip
SIGNS = "+*=/\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}"
QUANTITIES = frozenset({"many", "much", "left", "total", "altogether", "per", "each", "remain"})
CONVERTING = frozenset({"convert", "celsius", "fahrenheit", "miles", "kilometers", "pounds"})
#: opening word -> usual tokens
FACT_WORDS = {"who": 35.0, "when": 28.0, "where": 35.0, "whose": 30.0, "whom": 30.0}
FACT_NOUNS = frozenset({
    "capital", "year", "population", "many", "much", "old", "tall", "far", "long", "high", "name",
    "symbol", "colour", "color", "currency", "date", "largest", "smallest", "longest", "tallest",
    "country", "city", "continent", "planet", "opposite", "plural", "past", "chemical", "author",
    "language", "number", "square", "highest", "deepest", "fastest", "biggest", "temperature",
    "day", "month", "time", "animal", "element", "river", "ocean", "first",
})  # fmt: skip
QUESTIONING = frozenset({
    "what", "who", "which", "where", "when", "how", "is", "are", "does", "do", "did", "was", "find",
    "identify", "whats",
})  # fmt: skip
POLAR_OPENERS = frozenset({
    "is", "are", "was", "were", "do", "does", "did", "has", "have", "will", "should",
})  # fmt: skip
GREETINGS = frozenset({
    "hi", "hello", "hey", "thanks", "thank", "bye", "ok", "okay", "yo", "morning", "evening",
    "goodbye", "cool", "great", "sure", "hola", "yes", "no",
})  # fmt: skip
