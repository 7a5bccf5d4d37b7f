"""The recipe's section `gate`: the margins within which a model counts as fit for release."""

from pydantic import Field

from synthoma.settings import Section


class GateSection(Section):
    """Margins are fixed before anything is measured; a recipe that widens them says so in its release."""

    copy_rate: float = Field(
        0.01, gt=0, le=1, description="rate of copies that must be excluded (upper 95 % limit) where none is found"
    )
    copy_recall: float = Field(
        0.9, ge=0, le=1, description="share of exact, flipped and shifted copies that the search must find"
    )
    attack: float = Field(0.10, gt=0, le=0.5, description="limit of an attack's AUC less that of its control")
    spaces: list[str] = Field(["randconv"], min_length=1, description="feature spaces whose KID and coverage count")
    kid: float = Field(0.5, gt=0, description="limit of KID less floor, as a share of the yardstick (real, blurred)")
    coverage: float = Field(0.75, gt=0, lt=1, description="least coverage, as a share of its floor")
    utility: float = Field(0.02, gt=0, le=0.5, description="largest loss of AUC when synthetic images are added")
    utility_ratio: float = Field(
        1.0, gt=0, description="synthetic images for each real one in the arm that counts, chosen beforehand"
    )
