"""The networks of the survey: the callable that makes each, and the shape of its input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = "benchmarks.architectures.networks"  # written for this survey, after the papers they cite
IMAGENET = 224  # if the architecture fixes the size: an average pooling of 7x7, or a fixed number of tokens


@dataclass(frozen=True)
class Network:
    """One network: `make` is "module:callable", called with `arguments`; `shape` is that of its float32 input."""

    make: str
    shape: tuple[int, ...]
    arguments: Mapping[str, object] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The distribution that must be installed, "" for a network of this folder."""
        package = self.make.partition(".")[0]
        return "" if package == __package__.partition(".")[0] else package


def _image(size: int, channels: int = 3) -> tuple[int, ...]:
    return (1, channels, size, size)


def _timm(name: str, size: int, **arguments: object) -> Network:
    return Network(f"timm.models:{name}", _image(size), arguments)


def _cv(name: str, size: int, **arguments: object) -> Network:
    """A network of pytorchcv, named "file.callable"."""
    module, _, call = name.partition(".")
    return Network(f"pytorchcv.models.{module}:{call}", _image(size), arguments)


def _segmentation(name: str, size: int) -> Network:
    """A network of pytorchcv, for images of a size other than its default."""
    return _cv(name, size, in_size=(size, size))


def _own(name: str, *shape: int) -> Network:
    return Network(f"{OWN}:{name}", shape)


# Families have the names of their papers, networks the names in their packages.
FAMILIES: dict[str, dict[str, Network]] = {
    # a normalization before the convolution
    "DenseNet": {
        "densenet121": _timm("densenet121", 64),
        "densenet40_k12": _cv("densenet_cifar.densenet40_k12_cifar10", 32),
    },
    "PreResNet": {
        "preresnet18": _cv("preresnet.preresnet18", IMAGENET),
        "preresnet20": _cv("preresnet_cifar.preresnet20_cifar10", 32),
    },
    "PyramidNet": {"pyramidnet110_a48": _cv("pyramidnet_cifar.pyramidnet110_a48_cifar10", 32)},
    "DPN": {"dpn48b": _timm("dpn48b", 64), "dpn68": _timm("dpn68", 64)},
    "CondenseNet": {"condensenet74_c8_g8": _cv("condensenet.condensenet74_c8_g8", IMAGENET)},
    "PeleeNet": {"peleenet": _cv("peleenet.peleenet", IMAGENET)},
    "SparseNet": {"sparsenet121": _cv("sparsenet.sparsenet121", IMAGENET)},
    "FishNet": {"fishnet99": _cv("fishnet.fishnet99", IMAGENET)},
    "Residual Attention": {"resattnet56": _cv("resattnet.resattnet56", IMAGENET)},
    # found by search: cells of separable convolutions
    "NASNet": {"nasnet_4a1056": _cv("nasnet.nasnet_4a1056", IMAGENET)},
    "DARTS": {"darts": _cv("darts.darts", IMAGENET)},
    "Xception": {"xception": _timm("legacy_xception", 96)},
    # branches that become one convolution
    "RepVGG": {"repvgg_a0": _timm("repvgg_a0", 64)},
    "MobileOne": {"mobileone_s0": _timm("mobileone_s0", 64)},
    "FastViT": {"fastvit_t8": _timm("fastvit_t8", 128)},
    "RepViT": {"repvit_m0_9": _timm("repvit_m0_9", 64)},
    "RepGhost": {"repghostnet_050": _timm("repghostnet_050", 64)},
    # convolution and attention
    "LeViT": {"levit_128s": _timm("levit_128s", IMAGENET), "levit_conv_128s": _timm("levit_conv_128s", IMAGENET)},
    "TinyViT": {"tiny_vit_5m": _timm("tiny_vit_5m_224", IMAGENET)},
    "EfficientFormer": {
        "efficientformer_l1": _timm("efficientformer_l1", IMAGENET),
        "efficientformerv2_s0": _timm("efficientformerv2_s0", IMAGENET),
    },
    "EfficientViT": {
        "efficientvit_b0": _timm("efficientvit_b0", 64),
        "efficientvit_m0": _timm("efficientvit_m0", IMAGENET),
    },
    "MobileViT": {"mobilevit_xxs": _timm("mobilevit_xxs", 64)},
    "Visformer": {"visformer_tiny": _timm("visformer_tiny", IMAGENET)},
    "SHViT": {"shvit_s1": _timm("shvit_s1", 128)},
    "SwiftFormer": {"swiftformer_xs": _timm("swiftformer_xs", IMAGENET)},
    "ConvMixer": {  # the network for CIFAR-10 in the paper's section 4
        "convmixer_256_8": Network(
            "timm.models.convmixer:ConvMixer",
            _image(32),
            {"dim": 256, "depth": 8, "kernel_size": 5, "patch_size": 2, "num_classes": 10},
        )
    },
    # a convolution, then its normalization
    "ResNet": {"resnet18": _timm("resnet18", 64), "resnet50": _timm("resnet50", 64)},
    "ResNeSt": {"resnest14d": _timm("resnest14d", 64), "resnestabc14": _cv("resnesta.resnestabc14", IMAGENET)},
    "Res2Net": {"res2net50_26w_4s": _timm("res2net50_26w_4s", 64)},
    "IBN-Net": {"ibn_resnet50": _cv("ibnresnet.ibn_resnet50", IMAGENET)},
    "OctNet": {"octresnet10_ad2": _cv("octresnet.octresnet10_ad2", IMAGENET)},
    "SENet": {"seresnet18": _timm("legacy_seresnet18", 64), "senet16": _cv("senet.senet16", IMAGENET)},
    "SKNet": {"skresnet18": _timm("skresnet18", 64)},
    "RegNet": {"regnetx_002": _timm("regnetx_002", 64), "regnety_002": _timm("regnety_002", 64)},
    "VGG": {"vgg11_bn": _timm("vgg11_bn", IMAGENET, mlp_ratio=1 / 16)},
    "Inception": {
        "inception_v3": _timm("inception_v3", 128),
        "bninception": _cv("bninception.bninception", IMAGENET),
    },
    "SqueezeNext": {"sqnxt23_w1": _cv("squeezenext.sqnxt23_w1", IMAGENET)},
    "ShuffleNet": {
        "shufflenet_g3_wd4": _cv("shufflenet.shufflenet_g3_wd4", IMAGENET),
        "shufflenetv2_wd2": _cv("shufflenetv2.shufflenetv2_wd2", IMAGENET),
    },
    "IGCV3": {"igcv3_wd4": _cv("igcv3.igcv3_wd4", IMAGENET)},
    "MobileNet": {
        "mobilenetv1_100": _timm("mobilenetv1_100", 64),
        "mobilenetv2_050": _timm("mobilenetv2_050", 64),
        "mobilenetv3_small_050": _timm("mobilenetv3_small_050", 64),
        "mobilenetv4_conv_small": _timm("mobilenetv4_conv_small", 64),
    },
    "EfficientNet": {"efficientnet_b0": _timm("efficientnet_b0", 64)},
    "GhostNet": {"ghostnet_050": _timm("ghostnet_050", 64), "ghostnetv2_100": _timm("ghostnetv2_100", 64)},
    "DLA": {"dla46_c": _timm("dla46_c", 64)},
    "VoVNet": {"ese_vovnet19b_dw": _timm("ese_vovnet19b_dw", 64)},
    "CSPNet": {"cspdarknet53": _timm("cspdarknet53", 64)},
    "ReXNet": {"rexnet_100": _timm("rexnet_100", 64)},
    "HGNet": {"hgnetv2_b0": _timm("hgnetv2_b0", 64)},
    "StarNet": {"starnet_s1": _timm("starnet_s1", 64)},
    "FasterNet": {"fasternet_t0": _timm("fasternet_t0", 64)},
    # from images to images
    "HRNet": {"hrnet_w18_small": _timm("hrnet_w18_small", 64)},
    "U-Net": {"unet": _segmentation("unet.unet_cityscapes", 64)},
    "SegNet": {"segnet": _segmentation("segnet.segnet_cityscapes", 64)},
    "LinkNet": {"linknet": _segmentation("linknet.linknet_cityscapes", 64)},
    "ENet": {"enet": _segmentation("enet.enet_cityscapes", 64)},
    "ERFNet": {"erfnet": _segmentation("erfnet.erfnet_cityscapes", 64)},
    "ESPNetv2": {"espnetv2_wd2": _cv("espnetv2.espnetv2_wd2", IMAGENET)},
    "Fast-SCNN": {"fastscnn": _segmentation("fastscnn.fastscnn_cityscapes", 192)},
    "BiSeNet": {"bisenet_resnet18": _segmentation("bisenet.bisenet_resnet18_celebamaskhq", 64)},
    "DeepLabV3": {"deeplabv3_resnetd50b": _segmentation("deeplabv3.deeplabv3_resnetd50b_voc", 64)},
    "DCGAN": {
        "dcgan_generator": _own("DCGANGenerator", 1, 100, 1, 1),
        "dcgan_discriminator": _own("DCGANDiscriminator", *_image(64)),
    },
    # no images
    "PointNet": {"pointnet": _own("PointNet", 1, 3, 256)},
    "M5": {"m5": _own("M5", 1, 1, 8000)},
    "QuartzNet": {"quartznet": _own("QuartzNet", 1, 64, 128)},
    "DeepSpeech 2": {"deepspeech2": _own("DeepSpeech2", 1, 1, 64, 32)},
    "ST-GCN": {"stgcn": _own("STGCN", 1, 3, 32, 18)},
    "MLP": {"mlp": _own("MLP", 4, 64)},
}

QUICK = ("MLP", "DCGAN", "PointNet")  # of this folder: they need only torch, and a few seconds each
