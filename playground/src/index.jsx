// GraphiQL over the API that served this page: queries and mutations by HTTP, subscriptions by graphql-transport-ws.
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";
import "graphiql/graphiql.css";
import "./index.css";

import browseProducts from "../examples/1-browse-products.graphql";
import logIn from "../examples/2-log-in.graphql";
import createProduct from "../examples/3-create-product.graphql";
import placeOrder from "../examples/4-place-order.graphql";
import followOrder from "../examples/5-follow-order.graphql";
import cancelOrder from "../examples/6-cancel-order.graphql";

const url = new URL("/graphql", window.location.href);
const socketUrl = Object.assign(new URL(url), { protocol: url.protocol.replace("http", "ws") });

/** One client per operation, so that each uses the token that its header editor holds at that moment. */
function fetcher(operation, options) {
  const headers = Object.entries(options?.headers ?? {});
  const token = headers.find(([name]) => name.toLowerCase() === "authorization")?.[1];
  const wsClient = createClient({
    url: socketUrl.href,
    connectionParams: token ? { authorization: token } : {},
    // A subscription that was cut off is to be taken up again by hand, after its last cursor: tried again as it was, it
    // would repeat itself.
    retryAttempts: 0,
  });
  const fetch = createGraphiQLFetcher({ url: url.href, wsClient, enableIncrementalDelivery: false });
  return fetch(operation, options);
}

const token = '{ "authorization": "Bearer (paste the token that LogIn answered)" }';
const examples = [
  { query: browseProducts },
  { query: logIn },
  { query: createProduct, headers: token },
  { query: placeOrder, headers: token },
  { query: followOrder, headers: token },
  { query: cancelOrder, headers: token },
];

createRoot(document.getElementById("playground")).render(
  <GraphiQL fetcher={fetcher} defaultTabs={examples} defaultEditorToolsVisibility="headers" />,
);
