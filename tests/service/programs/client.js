// A client in another language, written from gradient.proto and tensor.proto alone: node client.js PROTO HOST:PORT
//
// Prints, a JSON value a line: the arguments of rosenbrock; its value and gradient at (-1.2, 1); the vjp of `undeclared`
// with 100,000 elements over the stream, summed up; what is said of a request that does not fit.

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, address] = process.argv.slice(2);
const reading = { includeDirs: [proto], keepCase: true, longs: Number, defaults: true, oneofs: true };
const definition = loader.loadSync("distgrad/v1/gradient.proto", reading);
const { GradientService } = grpc.loadPackageDefinition(definition).distgrad.v1;
const service = new GradientService(address, grpc.credentials.createInsecure());

// Arrays of float64, one after the other, and the headers that say where they lie.
function laidOut(...arrays) {
  let offset = 0;
  const headers = arrays.map((array) => {
    const header = { dtype: "float64", shape: [array.length], offset, size: array.byteLength };
    offset += array.byteLength;
    return header;
  });
  const payload = Buffer.concat(arrays.map((array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength)));
  return { arrays: headers, payload };
}

const leaf = (array) => ({ leaf: { array } });
const argumentsOf = (...values) => ({ tuple: { items: values } });

// A number, or an array of float64, that a value stands for.
function read(value, response) {
  if (value.kind === "real") return value.real;
  const { offset, size, shape } = response.arrays[value.leaf.array];
  const bytes = new Uint8Array(response.payload.subarray(offset, offset + size));
  const numbers = Array.from(new Float64Array(bytes.buffer));
  return shape.length === 0 ? numbers[0] : numbers;
}

const entry = (value, key) => value.dict.entries.find((one) => one.key === key).value;

function call(method, request) {
  return new Promise((resolve, reject) =>
    service[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );
}

// Sends a request over the stream, its first array in chunks ahead of it.
function streamed(kind, request, large) {
  return new Promise((resolve, reject) => {
    const stream = service.Stream();
    stream.on("error", reject);
    stream.on("data", (response) => {
      stream.end();
      resolve(response[response.body]);
    });
    const bytes = Buffer.from(large.buffer);
    for (let offset = 0; offset < bytes.length; offset += 2 ** 18) {
      const chunk = { transfer: 1, total: bytes.length, offset };
      stream.write({ chunk: { chunk, payload: bytes.subarray(offset, offset + 2 ** 18) } });
    }
    stream.write({ id: 1, [kind]: request });
  });
}

async function main() {
  const description = await call("DescribeFunction", { name: "rosenbrock" });
  console.log(JSON.stringify(description.arguments.map((argument) => argument.name)));

  const at = laidOut(Float64Array.of(-1.2, 1));
  const both = await call("ValueAndGradient", { function: "rosenbrock", arguments: argumentsOf(leaf(0)), ...at });
  console.log(JSON.stringify([read(both.value, both), read(entry(both.gradient, "x"), both)]));

  const x = Float64Array.from({ length: 100_000 }, (_, k) => k);
  const ones = laidOut(new Float64Array(x.length).fill(1));
  const request = { function: "undeclared", arguments: argumentsOf(leaf(0)), cotangents: [leaf(1)] };
  const sent = { dtype: "float64", shape: [x.length], size: x.byteLength, transfer: 1 };
  const vjp = await streamed("vjp", { ...request, arrays: [sent, ...ones.arrays], payload: ones.payload }, x);
  console.log(JSON.stringify(read(entry(vjp.gradients[0], "x"), vjp).reduce((sum, one) => sum + one, 0)));

  const misfit = laidOut(Float64Array.of(1));
  const unfit = { function: "rosenbrock", arguments: argumentsOf(leaf(0)), cotangents: [leaf(0)], ...misfit };
  const error = await call("Vjp", unfit).catch((found) => found);
  console.log(JSON.stringify([error.code, error.details]));
  service.close();
}

main();
