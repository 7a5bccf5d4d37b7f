"""The regions of a phantom slide as pathologists' programs write them: ASAP XML, Aperio ImageScope XML, QuPath GeoJSON.

All three say the same. QuPath has holes; ASAP has none, so that what does not count is a polygon of a group of its own, as
in CAMELYON; ImageScope has negative regions.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from synthoma.phantoms.slides.outlines import Outline, Region
from synthoma.phantoms.slides.scene import MPP, Scene

EXCLUSION = "exclusion"
_COLOURS = {
    "benign": (0, 160, 60),
    "adenocarcinoma": (200, 0, 0),
    "squamous": (150, 0, 200),
    EXCLUSION: (60, 60, 60),
}
_OTHER = (255, 160, 0)


def asap_xml(scene: Scene) -> str:
    """ASAP: a polygon each, in the group of its class; holes and exclusions in the group `exclusion`."""
    negative = [hole for region in scene.regions for hole in region.holes] + list(scene.exclusions)
    shapes = [(region.name, region.outline) for region in scene.regions] + [(EXCLUSION, each) for each in negative]
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", "\t<Annotations>"]
    for number, (group, outline) in enumerate(shapes):
        lines.append(
            f'\t\t<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup={quoteattr(group)} '
            f'Color="{_hex(group)}">'
        )
        lines.append("\t\t\t<Coordinates>")
        lines += [
            f'\t\t\t\t<Coordinate Order="{order}" X="{x:.2f}" Y="{y:.2f}" />'
            for order, (x, y) in enumerate(outline.points.tolist())
        ]
        lines += ["\t\t\t</Coordinates>", "\t\t</Annotation>"]
    lines += ["\t</Annotations>", "\t<AnnotationGroups>"]
    for group in dict.fromkeys(group for group, _ in shapes):
        lines.append(f'\t\t<Group Name={quoteattr(group)} PartOfGroup="None" Color="{_hex(group)}">')
        lines += ["\t\t\t<Attributes />", "\t\t</Group>"]
    return "\n".join([*lines, "\t</AnnotationGroups>", "</ASAP_Annotations>", ""])


def imagescope_xml(scene: Scene) -> str:
    """Aperio ImageScope: a layer a class; holes and exclusions are negative regions of the layer of the tumour."""
    lines = [f'<Annotations MicronsPerPixel="{MPP:.6f}">']
    for number, name in enumerate(dict.fromkeys(region.name for region in scene.regions), start=1):
        regions = [region for region in scene.regions if region.name == name]
        shapes = [(region.outline, 0) for region in regions] + [
            (hole, 1) for region in regions for hole in region.holes
        ]
        shapes += [(exclusion, 1) for exclusion in scene.exclusions if _meets(exclusion, regions)]
        red, green, blue = _colour(name)
        lines.append(
            f' <Annotation Id="{number}" Name={quoteattr(name)} ReadOnly="0" NameReadOnly="0" LineColorReadOnly="0" '
            f'Incremental="0" Type="4" LineColor="{red + (green << 8) + (blue << 16)}" Visible="1" Selected="0" '
            'MarkupImagePath="" MacroName="">'
        )
        lines += ["  <Attributes/>", "  <Regions>", "   <RegionAttributeHeaders/>"]
        for order, (outline, negative) in enumerate(shapes, start=1):
            lines.append(
                f'   <Region Id="{order}" Type="0" Zoom="1" Selected="0" ImageLocation="" ImageFocus="0" '
                f'Area="{outline.area:.1f}" AreaMicrons="{outline.area * MPP**2:.1f}" Text="" NegativeROA="{negative}" '
                f'InputRegionId="0" Analyze="1" DisplayId="{order}">'
            )
            lines += ["    <Attributes/>", "    <Vertices>"]
            lines += [f'     <Vertex X="{x:.2f}" Y="{y:.2f}" Z="0"/>' for x, y in outline.points.tolist()]
            lines += ["    </Vertices>", "   </Region>"]
        lines += ["  </Regions>", "  <Plots/>", " </Annotation>"]
    return "\n".join([*lines, "</Annotations>", ""])


def qupath_geojson(regions: Iterable[Region], exclusions: Sequence[Outline] = ()) -> str:
    """QuPath: a feature a region, holes as inner rings; exclusions are features of the class `exclusion`."""
    shapes = [*regions, *(Region(EXCLUSION, outline) for outline in exclusions)]
    features = [_feature(region) for region in shapes]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def _feature(region: Region) -> dict[str, Any]:
    rings = [[*ring, ring[0]] for ring in (each.points.tolist() for each in (region.outline, *region.holes))]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": region.name, "color": list(_colour(region.name))},
            "isLocked": False,
        },
    }


def _meets(exclusion: Outline, regions: list[Region]) -> bool:
    """Whether an exclusion takes anything from the regions: whether their bounding boxes have a point in common."""
    x0, y0, x1, y1 = exclusion.box
    boxes = [region.outline.box for region in regions]
    return any(x0 < box[2] and x1 > box[0] and y0 < box[3] and y1 > box[1] for box in boxes)


def _colour(name: str) -> tuple[int, int, int]:
    return _COLOURS.get(name, _OTHER)


def _hex(name: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_colour(name))
