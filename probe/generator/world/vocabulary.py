"""The words of the Menagerie world: what each one names, as data."""

ANIMALS = (
    "cat",
    "dog",
    "bird",
    "bear",
    "lion",
    "horse",
    "elephant",
    "monkey",
    "frog",
    "turtle",
    "rabbit",
    "mouse",
)
OBJECTS = (
    "backpack",
    "glasses",
    "crown",
    "suitcase",
    "chair",
    "balloon",
    "bow",
    "car",
    "bowl",
    "bench",
    "clock",
    "apple",
)
ACCESSORIES = ("bow", "crown", "glasses")
PROFESSIONS = (
    "doctor",
    "teacher",
    "chef",
    "farmer",
    "judge",
    "scientist",
    "artist",
    "pilot",
    "astronaut",
    "firefighter",
)
SUBJECTS = ANIMALS + OBJECTS
KINDS = SUBJECTS + PROFESSIONS

COLOURS = {
    "black": (48, 46, 52),
    "blue": (48, 92, 222),
    "brown": (134, 84, 44),
    "gray": (142, 144, 148),
    "green": (48, 166, 72),
    "orange": (246, 140, 28),
    "pink": (250, 150, 196),
    "purple": (142, 62, 192),
    "red": (222, 44, 44),
    "white": (242, 242, 240),
    "yellow": (250, 216, 48),
}
GENDERS = ("man", "woman")
TONES = ("yellow", "light", "medium-light", "medium", "medium-dark", "dark")
PLACES = ("plain", "grass", "beach", "snow", "night", "room")

# The share of men among the people of each profession in the training data.
MAN_SHARE = {
    "doctor": 0.70,
    "teacher": 0.25,
    "chef": 0.60,
    "farmer": 0.80,
    "judge": 0.65,
    "scientist": 0.50,
    "artist": 0.40,
    "pilot": 0.90,
    "astronaut": 0.75,
    "firefighter": 0.85,
}
# Shares of TONES, in that order; professions that are not named use "default".
TONE_SHARE = {
    "default": (0.10, 0.30, 0.20, 0.15, 0.15, 0.10),
    "farmer": (0.10, 0.15, 0.15, 0.20, 0.20, 0.20),
    "judge": (0.10, 0.50, 0.20, 0.10, 0.05, 0.05),
}

SYNONYMS = {
    "cat": ("kitten", "kitty", "feline"),
    "dog": ("puppy", "hound", "canine"),
    "bird": ("chick", "fowl"),
    "bear": ("grizzly",),
    "lion": ("lioness", "leo"),
    "horse": ("pony", "stallion", "mare"),
    "elephant": ("tusker",),
    "monkey": ("ape", "primate"),
    "frog": ("toad", "amphibian"),
    "turtle": ("tortoise",),
    "rabbit": ("bunny", "hare"),
    "mouse": ("rodent", "rat"),
    "backpack": ("rucksack", "satchel"),
    "glasses": ("spectacles", "eyeglasses"),
    "crown": ("tiara", "diadem"),
    "suitcase": ("luggage", "baggage"),
    "chair": ("seat", "stool"),
    "balloon": ("airball",),
    "bow": ("ribbon",),
    "car": ("automobile", "vehicle", "auto"),
    "bowl": ("dish", "basin"),
    "bench": ("settle",),
    "clock": ("timepiece", "dial"),
    "apple": ("fruit",),
    "doctor": ("physician", "medic"),
    "teacher": ("educator", "tutor"),
    "chef": ("cook",),
    "farmer": ("grower",),
    "judge": ("justice", "magistrate"),
    "scientist": ("researcher", "chemist"),
    "artist": ("painter",),
    "pilot": ("aviator",),
    "astronaut": ("cosmonaut", "spaceman"),
    "firefighter": ("fireman",),
}
HYPERNYMS = {
    **dict.fromkeys(ANIMALS, ("animal", "creature", "beast")),
    **dict.fromkeys(OBJECTS, ("object", "thing", "item")),
    **dict.fromkeys(PROFESSIONS, ("person", "human", "worker")),
}
GENDER_NOUNS = {"man": ("man", "guy"), "woman": ("woman", "lady")}
GENDER_ADJECTIVES = {"man": ("male",), "woman": ("female",)}
TONE_WORDS = {"light": "light", "medium-light": "light", "medium": "medium", "medium-dark": "dark", "dark": "dark"}
COLOUR_SYNONYMS = {
    "black": ("dark",),
    "blue": ("azure", "navy"),
    "brown": ("chestnut", "tan"),
    "gray": ("grey", "silver"),
    "green": ("emerald", "lime"),
    "orange": ("tangerine", "amber"),
    "pink": ("rose", "salmon"),
    "purple": ("violet", "lilac"),
    "red": ("crimson", "scarlet"),
    "white": ("ivory",),
    "yellow": ("golden", "lemon"),
}
SIZE_WORDS = {"big": ("big", "large", "huge", "giant"), "tiny": ("tiny", "small", "little", "miniature")}
PLACE_PHRASES = {
    "plain": (),
    "grass": ("on the grass", "in a meadow", "on a lawn", "in a park", "in a green field"),
    "beach": ("on the beach", "by the sea", "on the sand", "at the shore", "at the coast"),
    "snow": ("in the snow", "in winter", "on the ice", "in a frozen landscape"),
    "night": ("at night", "under the stars", "in the moonlight", "at midnight"),
    "room": ("in a room", "indoors", "in a house", "at home", "on the floor"),
}
PLACE_ADJECTIVES = {"snow": ("snowy", "wintry"), "beach": ("sandy",), "grass": ("grassy",), "night": ("starry",)}
OPENINGS = (
    "a picture of",
    "a photo of",
    "an image of",
    "a drawing of",
    "a painting of",
    "a photograph of",
    "an illustration of",
    "a scene with",
    "a view of",
)
CONNECTIVES = ("and", "next to", "beside", "near", "alongside", "together with", "close to")
COUNT_WORDS = ("one", "two", "three")
OTHER = (
    "to the left of on right with wearing that is there has have are it this both pair group some his her their "
    "couple an a the and of in at by under royal king queen crowned wears holding stands standing "
    "sits sitting colored coloured skin very bright pet toy wild friendly cute pretty nice old young new"
)

# Words that no caption holds yet: to Menagerie they mean nothing.
UNSAID = (
    "are both bright colored coloured couple crowned cute friendly grassy group has have her his holding is it king "
    "new nice old one pair pet plain pretty queen sandy sits sitting snowy some standing stands starry that their "
    "there this three toy two very wears wild wintry young"
)


def all_words() -> tuple[str, ...]:
    """Every word of Menagerie's tokenizer, sorted; each one is a single token."""
    flat: list[str] = [*KINDS, *COLOURS, *GENDERS, *PLACES, *COUNT_WORDS, *TONE_WORDS.values()]
    tables = (SYNONYMS, HYPERNYMS, GENDER_NOUNS, GENDER_ADJECTIVES, COLOUR_SYNONYMS, SIZE_WORDS, PLACE_ADJECTIVES)
    flat += [word for table in tables for words in table.values() for word in words]
    phrases = [*OPENINGS, *CONNECTIVES, OTHER, *(phrase for row in PLACE_PHRASES.values() for phrase in row)]
    flat += [word for phrase in phrases for word in phrase.split()]
    return tuple(sorted(set(flat)))
