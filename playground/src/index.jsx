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
import shipOrder from "../examples/7-ship-order.graphql";

const url = new URL("/graphql", window.location.href);
const socketUrl = Object.assign(new URL(url), { protocol: url.protocol.replace("http", "ws") });

/** What the last log-in answered. In memory only: whoever loads the page anew logs in anew. */
let token;

async function fetcher(operation, options) {
  const typed = Object.fromEntries(Object.entries(options?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
  const headers = { ...(token && { authorization: `Bearer ${token}` }), ...typed };
  const { authorization } = headers;
  const fetch = createGraphiQLFetcher({
    url: url.href,
    enableIncrementalDelivery: false,
    // One client per operation, so that each uses the token of its moment. Connects for subscriptions only.
    wsClient: createClient({
      url: socketUrl.href,
      connectionParams: authorization ? { authorization } : {},
      // A subscription that was cut off is to be taken up by hand, after its last cursor: tried again as it was, it would
      // repeat itself.
      retryAttempts: 0,
    }),
  });
  const answer = await fetch(operation, { ...options, headers });
  token = answer?.data?.logIn?.token ?? token;
  return answer;
}

const examples = [browseProducts, logIn, createProduct, placeOrder, followOrder, cancelOrder, shipOrder];

createRoot(document.getElementById("playground")).render(
  <GraphiQL fetcher={fetcher} defaultTabs={examples.map((query) => ({ query }))} defaultEditorToolsVisibility={false} />,
);
