"""This project on a GPU, measured by one command within a few minutes.

archive     a part of Tiny-ImageNet small enough to travel run         the clock, the parts one
after the other, what each has found so far on the disk exactness   part a: what of the dead zone,
and of every saliency map, is the same on the device steps       part b: the training step against a
plain loop in torchvision's style; the loader against the step maps        part c: saliency maps
against pytorch-grad-cam and torch-cam networks    part d: the paper's networks, trained; Table 1,
and what of it the hidden object makes page        benchmarks/gpu.md and gpu.csv, from what a run
left showcase    showcase/tiny-imagenet-gpu, likewise
"""
