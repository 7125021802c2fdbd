// Scores items against a prefix: node score.mjs HOST:PORT PREFIX ITEM... prints a line an item: score, status, item.
// RANKPORT_PROTOS names the folder with rankport/protos/v1/rankport.proto: protos/ of the sources, or where pip put it.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const protos = process.env.RANKPORT_PROTOS ?? fileURLToPath(new URL("../../../protos", import.meta.url));
const definition = loader.loadSync("rankport/protos/v1/rankport.proto", {
  includeDirs: [protos],
  keepCase: true,
  enums: String,
  longs: Number,
  defaults: true,
});
const { rankport } = grpc.loadPackageDefinition(definition);

// A server that cannot be reached is asked again; gRPC's own retries, within the call's deadline.
const retries = {
  methodConfig: [
    {
      name: [{ service: "rankport.v1.Scoring" }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "2s",
        backoffMultiplier: 3,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

const [address, prefix, ...items] = process.argv.slice(2);
const client = new rankport.v1.Scoring(address, grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(retries),
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});

// Tensors are bytes, little-endian, with their shape.
function floats({ data }) {
  return Array.from({ length: data.length / 4 }, (_, place) => data.readFloatLE(4 * place));
}

// Outcomes are sent only of items that there is something to say of.
function outcomes(reply) {
  return new Map(
    reply.outcomes.map(({ index, status, message }) => [
      index,
      { status: status.replace("ITEM_STATUS_", "").toLowerCase(), message },
    ]),
  );
}

const request = { prefix: { text: prefix }, items: { texts: { values: items } } };
client.Score(request, { deadline: Date.now() + 5000 }, (error, reply) => {
  if (error) {
    // The status says whose mistake it is, the trailer `rankport-error` the error's class.
    console.error(`${error.metadata.get("rankport-error")[0] ?? grpc.status[error.code]}: ${error.details}`);
    process.exit(1);
  }
  const told = outcomes(reply);
  floats(reply.scores).forEach((score, place) => {
    const { status, message } = told.get(place) ?? { status: "ok", message: "" };
    console.log([score.toFixed(6), status, items[place], message].join("\t").trimEnd());
  });
  client.close();
});
