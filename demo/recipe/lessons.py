"""Moving photographs: pairs and clips of frames with ground truth and the teacher's targets.

A photograph is a backdrop that a camera pans, zooms and rolls over; pieces of other photographs,
with soft edges, cut out along what is one thing in the teacher's features, rest or move on top. So
it is known which layer is visible where, and where each point goes, as in rendered scenes but on
real textures, and every frame has the teacher's targets, warped by the same maps.
"""

import torch
import torch.nn.functional as F

from demo.recipe.targets import CELL
from demo.recipe.training import PATCH
from demo.recipe.truth import TrueClips
from demo.render.scenes import compose, invert, outlines, pose, smooth_path

LENGTH = 16  # frames of a scene, of which a clip takes some
PACE = 300  # pixels: the unit of speeds, at any size
# width of a student's patch in teacher's cells: finer patches would have blurred targets
FINEST, COARSEST = (
    0.85,
    1.6,
)
THINGS = 4  # at most, over a photograph


class Floats:
    """Pictures as (3, height, width) from 0 to 1, made when asked for; for `textures`."""

    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, n):
        return self.pictures[n].pixels.float() / 255


def paint(pictures, poses, height, width):
    """Lay pictures over one another.

    Args:
        pictures: list of (channels + 1, h, w), multiplied by the opacity that is their last
            channel; the first one is continued by reflection. They say the device.
        poses: (frames, layers, 2, 3), pixels of a picture to pixels of a frame.
    Returns:
        (frames, channels, height, width) and owner (frames, height, width): the uppermost
        layer that covers half of a pixel.
    """
    device = pictures[0].device
    sides = [torch.arange(side, device=device) + 0.5 for side in (height, width)]
    (y, x), poses = torch.meshgrid(*sides, indexing="ij"), poses.to(device)
    drawn = None
    owner = torch.zeros(len(poses), height, width, dtype=torch.long, device=device)
    for number, picture in enumerate(pictures):
        size = torch.tensor(picture.shape[:0:-1], device=device).view(2, 1)
        inverse = invert(poses[:, number]) * (2 / size)  # frame pixels to -1…1 across the picture
        inverse[..., 2] -= 1
        inverse = inverse[:, None, None]
        # (frames, height, width, 2)
        grid = (
            x.unsqueeze(-1) * inverse[..., 0] + y.unsqueeze(-1) * inverse[..., 1] + inverse[..., 2]
        )
        padding = "zeros" if number else "reflection"
        layer = F.grid_sample(
            picture.expand(len(poses), -1, -1, -1), grid, padding_mode=padding, align_corners=False
        )
        colours, alpha = layer[:, :-1], layer[:, -1:]
        drawn = colours if drawn is None else torch.addcmul(colours, drawn, 1 - alpha)
        owner.masked_fill_(alpha[:, 0] > 0.5, number)
    return drawn, owner


def coarser(poses):
    """Poses between pixels, as poses between cells of the targets and patches of the frame."""
    return torch.cat([poses[..., :2] * (CELL / PATCH), poses[..., 2:] / PATCH], -1)


class Lessons(TrueClips):
    """`TrueClips` with textures of photographs; and clips of photographs and of film, with targets.

    pictures: {name: Picture} of `prepare`; those of a film are named FILM.FRAME.
    """

    def __init__(self, seed, device, pictures, scenes=24):
        self.stills = [picture for name, picture in pictures.items() if "." not in name]
        films = {}
        for name, picture in pictures.items():
            if "." in name:
                films.setdefault(name.rsplit(".", 1)[0], []).append(picture)
        self.films = list(films.values())
        super().__init__(seed, device, scenes, Floats(self.stills))
        self.calls = 0

    def renew(self, textures_too):
        """Only every other time: scenes are the smaller part here."""
        self.calls += 1
        if self.calls % 2 == 0 or textures_too:
            super().renew(textures_too)

    def thing(self):
        """A piece of a photograph with soft edges: (4, h, w), and targets (channels + 1, …)."""
        source = self.stills[self.below(len(self.stills))]
        rows, columns = source.target.shape[1:]
        side = min(5 + self.below(12), rows, columns)
        top, left = self.below(rows - side + 1), self.below(columns - side + 1)
        target = source.target[:, top : top + side, left : left + side].to(self.device).float()
        pixels = (
            source.pixels[:, top * CELL : (top + side) * CELL, left * CELL : (left + side) * CELL]
            .to(self.device)
            .float()
            / 255
        )
        alpha, _ = outlines(1, side * CELL, self.generator, self.device)
        if self.below(3):  # cut along what is similar to its middle
            flat = F.normalize(target, dim=0)
            middle = flat[:, side // 2, side // 2]
            like = F.interpolate(
                (middle @ flat.flatten(1)).view(1, 1, side, side),
                scale_factor=CELL,
                mode="bilinear",
            )[0]
            alpha = alpha * torch.sigmoid(20 * (like - self.number(0.2, 0.4)))
        opacity = F.avg_pool2d(alpha, CELL)
        return torch.cat([pixels * alpha, alpha]), torch.cat([target * opacity, opacity])

    def course(self, moves, speed):
        """Translation, rotation and growth over a scene: poses (LENGTH, 2, 3) about the origin."""
        time = torch.arange(LENGTH) - (LENGTH - 1) / 2
        # (LENGTH, 2)
        path = (
            moves * smooth_path(self.generator, 1, LENGTH, torch.full((1, 1, 1), speed * PACE))[0]
        )
        turn, growth = (
            moves * self.number(-0.02, 0.02) * time,
            torch.exp(moves * self.number(-0.015, 0.015) * time),
        )
        return pose(path[:, 0], path[:, 1], turn, growth)

    def view(self, picture, height, width):
        """A pose (2, 3) of a picture in a frame: a random part, at a random scale and rotation."""
        rows, columns = picture.target.shape[1:]
        # cells per patch at which the picture just fills the frame
        widest = min(rows * PATCH / height, columns * PATCH / width)
        scale = FINEST * (min(max(widest, FINEST), COARSEST) / FINEST) ** self.number(0, 1)
        centre = []
        for side, cells in ((width, columns), (height, rows)):
            half = side * scale * CELL / PATCH / 2  # of the part, in pixels of the picture
            # all of a picture that is smaller than its frame
            centre.append(self.number(*sorted((half, cells * CELL - half))))
        return pose(
            width / 2, height / 2, self.number(-0.2, 0.2), PATCH / CELL / scale, centre=centre
        )

    def draw_real(self, batch, steps, height, width, mode, film=False):
        """`batch` clips of photographs, or of film.

        Returns:
            as `draw_true` (of film only the pictures are true), and the targets
            (batch, steps, 2, channels, rows, columns).
        """
        drawn = []
        for _ in range(batch):
            if film:
                frames = self.films[self.below(len(self.films))]
                start = self.below(len(frames) // LENGTH) * LENGTH  # of a run
                backdrops, things = frames[start : start + LENGTH], []
            else:
                backdrops = [self.stills[self.below(len(self.stills))]] * LENGTH
                things = [self.thing() for _ in range(self.below(THINGS + 1))]
            poses, moving = self.world(backdrops[0], things, height, width)
            numbers, apart = self.moments(steps, mode)
            mirror = pose(width, 0, 0, -1, 1) if self.below(2) else pose(0, 0)
            other_views = mode != "clip" and self.below(2)
            clip = []
            for n in numbers:
                view = self.another_view(height, width) if other_views else pose(0, 0)
                both = [n, n + apart] if apart else [n]
                placed = compose(compose(mirror, view), poses[both])  # (1 or 2, layers, 2, 3)
                pair = [backdrops[number] for number in both]
                clip.append(self.frames(pair, things, placed, height, width))
            pictures, owners, placed, targets = (torch.stack(t) for t in zip(*clip, strict=True))
            empty = THINGS + 1 - placed.shape[2]  # as many layers in every clip
            placed = torch.cat([placed, pose(0, 0).expand(steps, 2, empty, 2, 3)], 2)
            placed = placed.to(self.device)
            moving = torch.tensor(moving + [0] * empty, device=self.device)
            drawn.append((self.light(pictures), owners, placed, moving, targets))
        return [torch.stack(part) for part in zip(*drawn, strict=True)]

    def world(self, backdrop, things, height, width):
        """Poses of backdrop and things over a scene, (LENGTH, layers, 2, 3), and which move."""
        poses, moving = [self.view(backdrop, height, width).expand(LENGTH, 2, 3)], [0]
        for number, (pixels, _) in enumerate(things, 1):
            moves, middle = self.below(2), pixels.shape[1] / 2
            scale = PATCH / CELL * 2 ** self.number(-1, 0.7)
            own = pose(0, 0, self.number(-0.5, 0.5), scale, centre=(middle, middle))
            place = pose(self.number(0, width), self.number(0, height))
            poses.append(compose(place, compose(self.course(moves, self.number(0.004, 0.06)), own)))
            moving.append(number * moves)
        camera = self.course(self.below(2), self.number(0, 0.02))  # about the middle of the frame
        camera = compose(camera, pose(-width / 2, -height / 2))
        camera = compose(pose(width / 2, height / 2), camera)
        return compose(camera[:, None], torch.stack(poses, 1)), moving

    def another_view(self, height, width):
        """A map (2, 3) of a frame into itself: shifted, rotated, scaled differently in x and y."""
        x, y = width * self.number(0.3, 0.7), height * self.number(0.3, 0.7)
        scales = 2 ** self.number(-0.4, 0.6), 2 ** self.number(-0.4, 0.6)
        return pose(x, y, self.number(-0.2, 0.2), *scales, centre=(width / 2, height / 2))

    def frames(self, backdrops, things, poses, height, width):
        """Two frames, of one the same twice: pixels (2, 3, height, width), owner (2, height,
        width), poses, targets.
        """
        solid = lambda x: torch.cat([x, torch.ones_like(x[:1])])
        drawn = []
        for backdrop, placed in zip(backdrops, poses, strict=True):
            pixels, target = (t.to(self.device) for t in (backdrop.pixels, backdrop.target))
            layers = [solid(pixels.float() / 255)] + [pixels for pixels, _ in things]
            pixels, owner = paint(layers, placed[None], height, width)
            layers = [solid(target.float())] + [target for _, target in things]
            target, _ = paint(layers, coarser(placed[None]), height // PATCH, width // PATCH)
            drawn.append((pixels[0].clamp(0, 1), owner[0], placed, target[0]))
        return [torch.stack(part) for part in zip(*(drawn + drawn)[:2], strict=True)]
