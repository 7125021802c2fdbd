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
if (items.length === 0) {
  console.error("usage: node score.mjs HOST:PORT PREFIX ITEM...");
  process.exit(1);
}
// Looks for a server that is back every second, not every two minutes, and takes answers of any size.
const client = new rankport.v1.Scoring(address, grpc.credentials.createInsecure(), {
  "grpc.service_config": JSON.stringify(retries),
  "grpc.initial_reconnect_backoff_ms": 1000,
  "grpc.max_reconnect_backoff_ms": 1000,
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

// An error of this status without the trailer is a limit, which no waiting helps.
function retryInMs({ code, metadata }) {
  const [delay] = metadata.get("grpc-retry-pushback-ms");
  return code === grpc.status.RESOURCE_EXHAUSTED && delay !== undefined ? Number(delay) : Infinity;
}

// Comes again where the server is overloaded, when it says, as long as the deadline leaves the time.
async function score(request, deadline) {
  for (;;) {
    try {
      return await new Promise((resolve, reject) => {
        client.Score(request, { deadline }, (error, reply) => (error ? reject(error) : resolve(reply)));
      });
    } catch (error) {
      const delay = retryInMs(error);
      if (Date.now() + delay > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

function show(reply) {
  const told = outcomes(reply);
  floats(reply.scores).forEach((value, place) => {
    const { status, message } = told.get(place) ?? { status: "ok", message: "" };
    console.log([value.toFixed(6), status, items[place], message].join("\t").trimEnd());
  });
}

try {
  show(await score({ prefix: { text: prefix }, items: { texts: { values: items } } }, Date.now() + 5000));
} catch (error) {
  // The status says whose mistake it is, the trailer `rankport-error` the error's class.
  console.error(`${error.metadata.get("rankport-error")[0] ?? grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
} finally {
  client.close();
}
