"""What the world can say: named things, colours, places and styles; captions and their reading.

A `Scene` is the meaning of a caption. Objects are listed front to back. `caption` writes the
canonical sentence (front object first); `sentences` also writes the other grammars that mean the
same; `parse` reads any of them back, synonyms included.
"""

import re
from dataclasses import dataclass

SOLIDS = ("ball", "cube", "cone", "cylinder", "ring")
ANIMALS = ("bear", "panda", "tiger", "lion", "rabbit")
SHAPES = SOLIDS + ANIMALS
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black", "brown")
PLACES = ("snow", "grass", "sand", "water", "forest", "city", "room", "night")
STYLES = ("photorealism", "animation", "impressionism")
RELATIONS = ("front", "beside", "family")

NATURAL = {
    "bear": "brown",
    "panda": "white",
    "tiger": "orange",
    "lion": "yellow",
    "rabbit": "white",
}
PLACE_PHRASES = {
    "snow": "on snow",
    "grass": "on grass",
    "sand": "on sand",
    "water": "on water",
    "forest": "in a forest",
    "city": "in a city",
    "room": "in a room",
    "night": "at night",
}
_SHAPE_WORDS = {
    **{shape: shape for shape in SHAPES},
    "sphere": "ball",
    "box": "cube",
    "block": "cube",
    "donut": "ring",
    "torus": "ring",
    "tigress": "tiger",
    "lioness": "lion",
    "bunny": "rabbit",
    "hare": "rabbit",
}
_COLOUR_WORDS = {**{colour: colour for colour in COLOURS}, "violet": "purple", "golden": "yellow"}
_PLACE_WORDS = {
    **{place: place for place in PLACES},
    "snowy": "snow",
    "ice": "snow",
    "winter": "snow",
    "lawn": "grass",
    "meadow": "grass",
    "field": "grass",
    "beach": "sand",
    "desert": "sand",
    "sea": "water",
    "lake": "water",
    "ocean": "water",
    "woods": "forest",
    "jungle": "forest",
    "street": "city",
    "town": "city",
    "indoors": "room",
    "dark": "night",
    "moonlight": "night",
}
_STYLE_WORDS = {
    **{style: style for style in STYLES},
    "photorealistic": "photorealism",
    "photo": "photorealism",
    "photograph": "photorealism",
    "realistic": "photorealism",
    "animated": "animation",
    "anime": "animation",
    "cartoon": "animation",
    "impressionist": "impressionism",
    "impressionistic": "impressionism",
    "painting": "impressionism",
    "monet": "impressionism",
}
_YOUNG = {"cub": 1, "cubs": 2, "kitten": 1, "kittens": 2, "young": 1, "baby": 1, "babies": 2}
_STYLE_PHRASES = {
    "photorealism": ("photorealism style", "a photo of {}", "a photorealistic picture of {}"),
    "animation": ("animation style", "a cartoon of {}", "an animated picture of {}"),
    "impressionism": (
        "impressionism style",
        "a painting of {}",
        "an impressionist painting of {}",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One named object; an animal left uncoloured has its natural colour."""

    shape: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a picture shows: things front to back, how they stand, where, and painted how.

    `relation` is "front" (each thing before the next one), "beside" (two things equally far, the
    left one first) or "family" (the first is the parent, the others its young).
    """

    things: tuple[Thing, ...]
    place: str | None
    style: str | None
    relation: str = "front"


def name(thing: Thing, *, spare: bool = False) -> str:
    """The noun phrase of a thing; with `spare`, an animal's natural colour goes unsaid."""
    if thing.shape == "bear" and thing.colour == "white":
        return "a polar bear"
    if spare and NATURAL.get(thing.shape) == thing.colour and thing.shape != "bear":
        return f"a {thing.shape}"
    return f"{'an' if thing.colour == 'orange' else 'a'} {thing.colour} {thing.shape}"


def _subject(scene: Scene, *, spare: bool, order: int) -> str:
    names = [name(thing, spare=spare) for thing in scene.things]
    if scene.relation == "family":
        return f"{names[0]} with her {'cub' if len(names) == 2 else 'cubs'}"
    if len(names) == 1:
        return names[0]
    if scene.relation == "beside":
        left, right = names
        return f"{right} to the right of {left}" if order else f"{left} to the left of {right}"
    if len(names) == 3:
        first, second, third = names
        if order:
            return f"{third} behind {second} behind {first}"
        return f"{first} in front of {second} in front of {third}"
    return f"{names[1]} behind {names[0]}" if order else f"{names[0]} in front of {names[1]}"


def caption(scene: Scene, *, spare: bool = True, order: int = 0, style: int = 0) -> str:
    """The sentence of a scene.

    `spare` leaves natural colours unsaid, `order` 1 names the rear (right) thing first, `style`
    picks one of three ways to name the style. All zero is the canonical form.
    """
    text = _subject(scene, spare=spare, order=order)
    if scene.place is not None:
        text = f"{text} {PLACE_PHRASES[scene.place]}"
    if scene.style is None:
        return text
    phrase = _STYLE_PHRASES[scene.style][style]
    return phrase.format(text) if "{}" in phrase else f"{text}, {phrase}"


def sentences(scene: Scene) -> list[str]:
    """Every way of saying a scene that `caption` knows, the canonical one first."""
    styles = range(3) if scene.style is not None else range(1)
    turns = range(2) if len(scene.things) > 1 and scene.relation != "family" else range(1)
    said = [
        caption(scene, spare=spare, order=order, style=style)
        for style in styles
        for order in turns
        for spare in (True, False)
    ]
    return list(dict.fromkeys(said))


def parse(text: str) -> Scene:
    """The scene a sentence describes; words the world does not know are passed over.

    An animal without a colour gets its natural one, a solid without a colour is white. At most
    three things are kept. Place and style are None where nothing is said.
    """
    words = re.findall(r"[a-z]+", text.lower())
    things: list[Thing] = []
    colour: str | None = None
    place: str | None = None
    style: str | None = None
    young = 0
    turned = False
    beside = False
    for at, word in enumerate(words):
        if word in _COLOUR_WORDS:
            colour = _COLOUR_WORDS[word]
        elif word == "polar":
            colour = "white"
        elif word in _SHAPE_WORDS or word.removesuffix("s") in _SHAPE_WORDS:
            shape = _SHAPE_WORDS.get(word) or _SHAPE_WORDS[word.removesuffix("s")]
            things.append(Thing(shape=shape, colour=colour or NATURAL.get(shape, "white")))
            colour = None
        elif word in _YOUNG and things:
            young = 2 if words[at - 1] in ("two", "both") else _YOUNG[word]
        elif word == "behind":
            turned = True
        elif word in ("beside", "left", "right"):
            beside = True
            turned = turned or word == "right"
        elif word in _PLACE_WORDS:
            place = _PLACE_WORDS[word]
        elif word in _STYLE_WORDS:
            style = _STYLE_WORDS[word]
    if young and things:
        family = (things[0],) * min(1 + young, 3)
        return Scene(things=family, place=place, style=style, relation="family")
    ordered = tuple(reversed(things[:3])) if turned else tuple(things[:3])
    relation = "beside" if beside and len(ordered) == 2 else "front"
    return Scene(things=ordered, place=place, style=style, relation=relation)


_PLAIN_WORDS = """
a an the of in on at to with her his its their and or from by near over under is are one
two three four big small large little tiny cute old new light bright dark colour color
colourful picture image video clip scene style painting drawing photo cartoon walking
running sitting standing playing moving rolling jumping sleeping looking day sun sunny sky
moon stars rain tree trees house car road man woman dog cat bird fish horse cow elephant
fox flower toy wooden floor wall ground side next
"""


def vocabulary() -> list[str]:
    """Every word a text encoder of the world should know whole."""
    known: set[str] = {"polar", "behind", "front", "beside", "left", "right", "both"}
    for table in (_SHAPE_WORDS, _COLOUR_WORDS, _PLACE_WORDS, _STYLE_WORDS, _YOUNG):
        known.update(table)
    known.update(f"{shape}s" for shape in SHAPES)
    for phrase in (*PLACE_PHRASES.values(), *(w for ws in _STYLE_PHRASES.values() for w in ws)):
        known.update(re.findall("[a-z]+", phrase))
    return sorted(known | set(_PLAIN_WORDS.split()))
