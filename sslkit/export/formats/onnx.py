"""ONNX, with a batch of any size."""

import warnings
from pathlib import Path

import torch

from sslkit.encoder.encoder import Encoder
from sslkit.errors import SslkitError
from sslkit.export.formats.base import GraphFormat, GraphOutputs


class OnnxGraph(GraphFormat):
    """``encoder.onnx``: input ``images``, outputs ``cls`` and, of a ViT, ``patches``."""

    requires = ("onnx", "onnxscript")
    extra = "onnx"
    usage = """
import onnxruntime

session = onnxruntime.InferenceSession("encoder.onnx")
cls = session.run(["cls"], {{"images": images.numpy()}})[0]  # (B, {width}){patches}
"""

    def write(self, encoder: Encoder, folder: Path) -> None:
        """Export and write the graph."""
        outputs = GraphOutputs(encoder)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                outputs,
                (outputs.example(),),
                input_names=["images"],
                output_names=outputs.names,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
        if program is None:
            raise SslkitError("torch.onnx.export gave no program: try another version of torch")
        program.save(str(folder / "encoder.onnx"))
