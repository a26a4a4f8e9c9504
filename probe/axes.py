"""The words for axes: every array of `probe` names its dimensions from this list.

site    a named place in the denoiser              step    a denoising step, from 0
branch  cond, uncond or negative                   image   a picture of the batch, from 0
head    an attention head                          word    a word or special token, by its label
token   a token of one encoder, from 0             y, x    cells of a grid, row then column
frame   a frame of a video                         channel a channel of the latents
prompt  a prompt of the call, from 0               layer   a layer of a text encoder, 0 being its embeddings
"""

from typing import Literal

Branch = Literal["cond", "uncond", "negative"]
Kind = Literal["cross", "self", "joint"]

SITE, STEP, BRANCH, IMAGE, HEAD = "site", "step", "branch", "image", "head"
WORD, TOKEN, FRAME, Y, X, CHANNEL = "word", "token", "frame", "y", "x", "channel"
PROMPT, LAYER = "prompt", "layer"
READING = (SITE, STEP, BRANCH, IMAGE, WORD, Y, X)
SPECIAL = ("<start>", "<end>", "<padding>")
RELEVANCY = (STEP, IMAGE, WORD, Y, X)
