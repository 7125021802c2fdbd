// Scores items against a prefix: score HOST:PORT PREFIX ITEM... prints a line an item: score, status, item.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rankport "rankport-example/rankportv1"
)

const deadline = 5 * time.Second

// A server that cannot be reached is asked again; gRPC's own retries, within the call's deadline.
const retries = `{
  "methodConfig": [{
    "name": [{"service": "rankport.v1.Scoring"}],
    "retryPolicy": {
      "maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 3,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

func main() {
	if len(os.Args) < 4 {
		fail("usage: score HOST:PORT PREFIX ITEM...")
	}
	channel, err := connect(os.Args[1])
	if err != nil {
		fail("%v", err)
	}
	defer channel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	items := os.Args[3:]
	reply, err := score(ctx, rankport.NewScoringClient(channel), request(os.Args[2], items))
	if err != nil {
		fail("%s", told(err))
	}
	show(reply, items)
}

// Looks for a server that is back every second, not every two minutes, and takes answers of any size.
func connect(address string) (*grpc.ClientConn, error) {
	delays := backoff.DefaultConfig
	delays.MaxDelay = time.Second
	return grpc.Dial(
		address,
		grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: delays, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
}

func request(prefix string, items []string) *rankport.ScoreRequest {
	texts := &rankport.Strings{Values: items}
	return &rankport.ScoreRequest{
		Prefix: &rankport.Prefix{Form: &rankport.Prefix_Text{Text: prefix}},
		Items:  &rankport.Items{Form: &rankport.Items_Texts{Texts: texts}},
	}
}

// Comes again where the server is overloaded, when it says, as long as the deadline leaves the time.
func score(
	ctx context.Context, client rankport.ScoringClient, request *rankport.ScoreRequest,
) (*rankport.ScoreResponse, error) {
	for {
		reply, err := client.Score(ctx, request)
		wait, again := retryIn(err)
		end, _ := ctx.Deadline()
		if !again || time.Until(end) < wait {
			return reply, err
		}
		time.Sleep(wait)
	}
}

// Says when to come again. An error of this status without the detail is a limit, which no waiting helps.
func retryIn(err error) (time.Duration, bool) {
	if status.Code(err) != codes.ResourceExhausted {
		return 0, false
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			delay := info.GetRetryDelay()
			return time.Duration(delay.GetSeconds())*time.Second + time.Duration(delay.GetNanos()), true
		}
	}
	return 0, false
}

// The status says whose mistake an error is, the reason among its details the error's class.
func told(err error) string {
	given := status.Convert(err)
	reason := given.Code().String()
	for _, detail := range given.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	return fmt.Sprintf("%s: %s", reason, given.Message())
}

// Outcomes are sent only of items that there is something to say of.
func show(reply *rankport.ScoreResponse, items []string) {
	outcomes := map[uint32]*rankport.ItemOutcome{}
	for _, outcome := range reply.GetOutcomes() {
		outcomes[outcome.GetIndex()] = outcome
	}
	for place, value := range floats(reply.GetScores()) {
		name := "OK"
		outcome := outcomes[uint32(place)] // nil where all is well, of which the fields are empty
		if outcome != nil {
			name = strings.TrimPrefix(outcome.GetStatus().String(), "ITEM_STATUS_")
		}
		line := fmt.Sprintf("%.6f\t%s\t%s\t%s", value, strings.ToLower(name), items[place], outcome.GetMessage())
		fmt.Println(strings.TrimRight(line, "\t"))
	}
}

// Tensors are bytes, little-endian, with their shape.
func floats(tensor *rankport.Tensor) []float32 {
	data := tensor.GetData()
	values := make([]float32, len(data)/4)
	for place := range values {
		values[place] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*place:]))
	}
	return values
}

func fail(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
