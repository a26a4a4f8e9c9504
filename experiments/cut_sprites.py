"""Cut Menagerie's sprite atlas from the Noto colour emoji font.

Which pictures does the world consist of? Run this only to rebuild `probe/generator/assets/sprites.png`:
it needs the font (Debian package `fonts-noto-color-emoji`) and a Pillow with raqm, which joins the sequences
for professions and skin tones. The atlas is committed, so nobody else needs either.
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
ASSETS = Path(__file__).parents[1] / "probe" / "generator" / "assets"
SIDE, COLUMNS = 96, 12
STRIKE = 109  # the only size of the bitmaps in the font

THINGS = {
    "cat": "\U0001f431", "dog": "\U0001f436", "bird": "\U0001f426", "bear": "\U0001f43b",
    "lion": "\U0001f981", "horse": "\U0001f434", "elephant": "\U0001f418", "monkey": "\U0001f435",
    "frog": "\U0001f438", "turtle": "\U0001f422", "rabbit": "\U0001f430", "mouse": "\U0001f42d",
    "backpack": "\U0001f392", "glasses": "\U0001f453", "crown": "\U0001f451", "suitcase": "\U0001f9f3",
    "chair": "\U0001fa91", "balloon": "\U0001f388", "bow": "\U0001f380", "car": "\U0001f697",
    "bowl": "\U0001f963", "clock": "\U0001f550", "apple": "\U0001f34e",
}  # fmt: skip
JOBS = {
    "doctor": "⚕️", "teacher": "\U0001f3eb", "chef": "\U0001f373", "farmer": "\U0001f33e",
    "judge": "⚖️", "scientist": "\U0001f52c", "artist": "\U0001f3a8", "pilot": "✈️",
    "astronaut": "\U0001f680", "firefighter": "\U0001f692",
}  # fmt: skip
PEOPLE = {"man": "\U0001f468", "woman": "\U0001f469"}
TONES = {
    "yellow": "", "light": "\U0001f3fb", "medium-light": "\U0001f3fc",
    "medium": "\U0001f3fd", "medium-dark": "\U0001f3fe", "dark": "\U0001f3ff",
}  # fmt: skip


def sequences() -> dict[str, str]:
    """Sprite name -> emoji sequence; people are named profession/gender/tone."""
    people = {
        f"{job}/{gender}/{tone}": person + modifier + "\u200d" + sign
        for job, sign in JOBS.items()
        for gender, person in PEOPLE.items()
        for tone, modifier in TONES.items()
    }
    return {**THINGS, **people}


def cut(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji, cropped to its ink and fitted into the square of a sprite."""
    canvas = Image.new("RGBA", (400, 200))
    ImageDraw.Draw(canvas).text((20, 20), text, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None or box[2] - box[0] > 1.5 * (box[3] - box[1]) + 60:
        sys.exit(f"{text!r} did not render as one emoji: Pillow needs raqm, and the font must know the sequence")
    return fit(canvas.crop(box))


def fit(sprite: Image.Image) -> Image.Image:
    scale = SIDE / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(sprite.resize(size, Image.Resampling.LANCZOS), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square


def bench() -> Image.Image:
    """The font has no bench, so this one is drawn: three slats for the back, two for the seat, iron legs."""
    picture = Image.new("RGBA", (384, 300))
    pen = ImageDraw.Draw(picture)
    wood, dark, iron = (176, 116, 62, 255), (146, 92, 46, 255), (74, 74, 82, 255)
    for x in (44, 320):
        pen.rectangle((x, 20, x + 20, 290), fill=iron)
    for row in range(3):
        pen.rounded_rectangle((10, 24 + row * 44, 374, 58 + row * 44), 10, fill=wood, outline=dark, width=5)
    for row in range(2):
        pen.rounded_rectangle((0, 168 + row * 34, 384, 198 + row * 34), 10, fill=wood, outline=dark, width=5)
    return fit(picture)


def main() -> None:
    font = ImageFont.truetype(FONT, STRIKE, layout_engine=ImageFont.Layout.RAQM)
    sprites = {name: cut(text, font) for name, text in sequences().items()} | {"bench": bench()}
    rows = -(-len(sprites) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * SIDE, rows * SIDE))
    for i, sprite in enumerate(sprites.values()):
        atlas.paste(sprite, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
    atlas.save(ASSETS / "sprites.png", optimize=True)
    (ASSETS / "sprites.json").write_text(json.dumps({"side": SIDE, "columns": COLUMNS, "names": list(sprites)}))
    print(f"{len(sprites)} sprites in {ASSETS / 'sprites.png'}")


if __name__ == "__main__":
    main()
