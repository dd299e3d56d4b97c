"""Finds the validation guards in a C++ file, for scripts/guard_mutations.py.

A guard is a place where the code refuses what it was given:

  refuse   if (COND) return Fail(...);           also with braces, also where the last statement of the block is the return
  accept   if (COND) return absl::OkStatus();    where what follows ends in return Fail(...); also "continue" and
           "return true", and return COND ? absl::OkStatus() : Fail(...);
  pass on  Q4_RETURN_IF_ERROR(EXPR);

What counts as refusing stands in REFUSALS. Q4_ASSIGN_OR_RETURN is no guard here: without it there is no value to go on with.

This is no C++ parser: it knows comments, literals, preprocessor lines and brackets, which is enough for code in one style. The
figures of guard_mutations.py name every guard that it found.
"""
import bisect
import dataclasses
import re

# A statement that refuses, from its start.
REFUSALS = re.compile(
    r"return (?:Keep\(\s*)?(?:Fail|InFile|Misuse|Misfit|Misplaced|Unexpected|Bad|Refuse|Wrong|End)\((?!absl::OkStatus)"  # makes an error
    r"|return (?:\w*status|made|renamed);|return [\w.]+\.(?:status|TakeStatus)\(\);|return errno;"  # has one
    r"|return (?:false|nullptr|\{\}|0|std::nullopt);"  # gives nothing
    r"|status = Fail\(|Refuse\(|throw ")
# Texts are refusals where a function says what is wrong, or nothing.
TEXT_REFUSALS = re.compile(r"return\s+(?:\"|fmt::format\()")
TEXT_FUNCTION = re.compile(r"std::string \w*Problem\(")
ACCEPTANCES = re.compile(r"return absl::OkStatus\(\);|return true;|continue;")


@dataclasses.dataclass
class Guard:
    kind: str  # "refuse", "accept" or "pass on"
    begin: int  # the condition or expression is text[begin:end]
    end: int
    line: int
    text: str  # the condition on one line


def masked(text: str) -> str:
    """The text with comments, literals and preprocessor lines blanked, of the same length."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\''
                         r"|^[ \t]*#(?:\\\n|[^\n])*", re.DOTALL | re.MULTILINE)

    def blank(match: "re.Match[str]") -> str:
        body = match.group(0)
        keeps_quotes = body[0] == '"'  # so that a returned text can be told from nothing
        inner = re.sub(r"[^\n]", " ", body)
        return f'"{inner[1:-1]}"' if keeps_quotes and len(body) > 1 else inner

    return pattern.sub(blank, text)


def closing(code: str, opening: int) -> int:
    """The position of the bracket that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(code)):
        if code[at] in "([{":
            depth += 1
        elif code[at] in ")]}":
            depth -= 1
            if depth == 0:
                return at
    raise ValueError(f"bracket at {opening} is never closed")


def top_level(code: str, begin: int, end: int, character: str) -> "list[int]":
    """Where `character` stands in code[begin:end] outside of brackets."""
    found, at = [], begin
    while at < end:
        if code[at] in "([{":
            at = closing(code, at)
        elif code[at] == character:
            found.append(at)
        at += 1
    return found


def skip_space(code: str, at: int) -> int:
    while at < len(code) and code[at].isspace():
        at += 1
    return at


def statement_end(code: str, begin: int) -> int:
    """Behind the simple statement or the block that starts at `begin`."""
    if code[begin] == "{":
        return closing(code, begin) + 1
    ends = top_level(code, begin, min(len(code), begin + 4000), ";")
    return ends[0] + 1 if ends else len(code)


def last_statement(code: str, begin: int, end: int) -> int:
    """The start of the last statement of what an `if` controls, code[begin:end]."""
    if code[begin] != "{":
        return begin
    at = last = skip_space(code, begin + 1)
    while at < end - 1:
        if code[at] in "([{":
            block = code[at] == "{"
            at = closing(code, at)
            if not block:
                at += 1
                continue
        elif code[at] != ";":
            at += 1
            continue
        at = skip_space(code, at + 1)
        if at < end - 1:
            last = at
    return last


def in_text_function(code: str, at: int) -> bool:
    """Whether the function around `at` returns what is wrong as text."""
    return bool(TEXT_FUNCTION.search(code, code.rfind("\n}", 0, at) + 1, at))


def is_refusal(code: str, at: int) -> bool:
    return bool(REFUSALS.match(code, at) or (TEXT_REFUSALS.match(code, at) and in_text_function(code, at)))


def accepts_before_refusal(code: str, body: int, after: int) -> bool:
    """Whether what an `if` controls, code[body:after], accepts, and without it the function goes on to refuse."""
    if not ACCEPTANCES.match(code, last_statement(code, body, after)):
        return False
    at = skip_space(code, after)
    while at < len(code) and code[at] != "}" and not re.compile(r"if \(|return ").match(code, at):
        at = skip_space(code, statement_end(code, at))
    return is_refusal(code, at)


def if_guard(code: str, opening: int) -> "tuple[str, int, int] | None":
    """Kind, begin and end of the guard whose condition opens at `opening`, if it is one."""
    close = closing(code, opening)
    initializers = top_level(code, opening + 1, close, ";")
    begin = skip_space(code, (initializers[-1] if initializers else opening) + 1)
    body = skip_space(code, close + 1)
    after = statement_end(code, body)
    last = last_statement(code, body, after)
    succeeds = re.fullmatch(r"\w+\.ok\(\)", code[begin:close])  # and "return status" is then no refusal
    if is_refusal(code, last) and not succeeds:
        return "refuse", begin, close
    if accepts_before_refusal(code, body, after):
        return "accept", begin, close
    return None


def find_guards(text: str) -> "list[Guard]":
    """All guards of a file, in order."""
    code = masked(text)
    found = []
    for match in re.finditer(r"\bif (\()", code):
        guard = if_guard(code, match.start(1))
        if guard is not None:
            found.append(guard)
    for match in re.finditer(r"\breturn ([^;?]*?) \? absl::OkStatus\(\) : Fail\(", code):
        found.append(("accept", match.start(1), match.end(1)))
    for match in re.finditer(r"\bQ4_RETURN_IF_ERROR(\()", code):
        found.append(("pass on", match.start(1) + 1, closing(code, match.start(1))))
    newlines = [match.start() for match in re.finditer("\n", text)]
    return [Guard(kind, begin, end, bisect.bisect_left(newlines, begin) + 1, " ".join(text[begin:end].split()))
            for kind, begin, end in sorted(found, key=lambda guard: guard[1])]


def with_switches(text: str, guards: "list[Guard]", first: int) -> str:
    """The text with guards number first, first + 1, ... made such that tests/support/guard_switch.h can take one away.

    A condition is evaluated all the same: what is taken away is that anything follows from it.
    """
    insertions = []
    for number, guard in enumerate(guards, first):
        before, after = {
            "refuse": ("(", f") && q4_guard::Refuses({number})"),
            "accept": ("(", f") || !q4_guard::Refuses({number})"),
            "pass on": (f"q4_guard::PassOn({number}, ", ")"),
        }[guard.kind]
        insertions += [(guard.begin, before), (guard.end, after)]
    for at, insertion in sorted(insertions, key=lambda pair: pair[0], reverse=True):
        text = text[:at] + insertion + text[at:]
    return text
